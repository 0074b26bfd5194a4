"""The model server: TensorFlow Serving's REST and gRPC contract over a serving directory."""
