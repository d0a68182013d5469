"""The local platform: REST API, MQTT broker, certificate authority and store, in one process of its own."""
