"""Cut films into clips, and draw keypoints as pose videos."""
