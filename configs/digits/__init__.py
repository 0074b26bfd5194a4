"""Handwritten digits: which one it is, and what strokes it is made of. Images, a convolutional network and two outputs."""
