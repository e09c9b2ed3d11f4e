"""Where a dancer is in each frame: keypoints, head boxes, crops, and the files beside a clip that say so."""
