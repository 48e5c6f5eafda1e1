"""What is measured of models and of what they make: accuracy, boxes, generated images, costs."""
