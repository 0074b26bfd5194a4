# TensorFlow Serving itself with the models of docker/models.config. docker/compose.yaml mounts the serving directories instead
# of copying them, so that a push is seen within a second.
ARG TAG=2.16.1
FROM tensorflow/serving:${TAG}
COPY docker/models.config docker/monitoring.config /etc/serving/
EXPOSE 8500 8501
ENTRYPOINT ["tensorflow_model_server", "--port=8500", "--rest_api_port=8501", \
    "--model_config_file=/etc/serving/models.config", "--model_config_file_poll_wait_seconds=5", \
    "--monitoring_config_file=/etc/serving/monitoring.config", \
    "--allow_version_labels_for_unavailable_models", "--enable_grpc_healthcheck_service"]
