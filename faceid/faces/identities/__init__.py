"""Make identity folders from photos and read them back; blend people."""
