"""Faces in photos: finding them, their landmarks, and cutting them out upright."""
