"""Geometry: pure maths of boxes, of cells and of the transform between original and input pixels.

Stage: every stage. Pixel i covers [i, i + 1), so that its centre is i + 0.5; boxes are continuous `xyxy`.
"""
