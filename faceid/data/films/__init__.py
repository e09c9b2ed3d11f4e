"""Films to clips, and keypoints to pose videos."""
