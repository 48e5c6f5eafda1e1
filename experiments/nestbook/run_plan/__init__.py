"""What one GPU should measure and train, and the script that uses a quarter of an hour of one."""
