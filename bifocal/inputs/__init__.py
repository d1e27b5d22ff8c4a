"""What the towers read: token ids and pictures, and how text and files become them."""
