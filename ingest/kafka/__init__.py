"""The Kafka border: messages come in and leave as the domain's types, errors as the program's own."""
