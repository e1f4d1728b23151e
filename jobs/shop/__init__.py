"""The embedded shop: a small multimodal catalogue with dated events, drawn from a hidden world.

All of it is a pure function of the seed and the date: an item, its picture and its words never change once it is born, and
a day's events are the same in every snapshot that covers the day. What the world hides (categories, leaves, tastes) is
kept apart as ground truth.
"""
