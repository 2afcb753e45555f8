"""The folder that ``evaluate.load`` takes: VQA accuracy as an ``evaluate.Metric``."""
