"""Find a dancer in each frame: keypoints, head boxes, crops, and the files beside a clip that hold them."""
