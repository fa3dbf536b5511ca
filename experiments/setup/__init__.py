"""What a program is asked, and how it begins, tells how far it is and ends."""
