"""Tracking, registration and promotion of models with MLflow."""
