"""What containers are made of, behind one seam (`base.Backend`)."""
