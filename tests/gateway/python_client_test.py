"""The gateway as Python's official gRPC client sees it: stubs generated from proto/, health and
reflection. Arguments: the folders of proto/ and of the two programs."""

import importlib
import subprocess
import sys
import tempfile
import time
import unittest

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_tools import protoc

PROTO, PROGRAMS = sys.argv[1], sys.argv[2]

GRAPH = """
apiVersion: octogate/v1
kind: Graph
metadata: {name: python}
spec:
  entry: main
  models: [{name: stub, workers: ["WORKER"]}]
  nodes:
    - name: main
      router:
        members: [talk, sum]
        fallback: talk
        heads: [{threshold: 0.5, lexical: {}}]
    - {name: talk, description: stories, examples: [tell me a story, stub tokens], model: {model: stub}}
    - {name: sum, description: numbers, examples: [1 + 1, 12 * 3], tool: {tool: calculator}}
"""


def generate_stubs():
    folder = tempfile.mkdtemp()
    names = [f"octogate/v1/{n}.proto" for n in ("graph", "gateway", "admin", "worker")]
    arguments = ["protoc", f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(arguments + names) != 0:
        raise RuntimeError("protoc failed")
    sys.path.insert(0, folder)


def start(name, *arguments):
    process = subprocess.Popen(
        [f"{PROGRAMS}/{name}", *arguments], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().split()[1]


class PythonClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        generate_stubs()
        cls.pb = importlib.import_module("octogate.v1.gateway_pb2")
        cls.admin_pb = importlib.import_module("octogate.v1.admin_pb2")
        gateway_grpc = importlib.import_module("octogate.v1.gateway_pb2_grpc")
        admin_grpc = importlib.import_module("octogate.v1.admin_pb2_grpc")
        cls.worker, worker_address = start("stub_worker_process", "127.0.0.1:0")
        cls.process, port = start("gateway_process")
        cls.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        cls.gateway = gateway_grpc.GatewayStub(cls.channel)
        cls.admin = admin_grpc.AdminStub(cls.channel)
        cls.health = health_pb2_grpc.HealthStub(cls.channel)
        cls.health_before = cls.check("")
        cls.admin.ApplyGraph(
            cls.admin_pb.ApplyGraphRequest(manifest=GRAPH.replace("WORKER", worker_address))
        )

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        for process in (cls.process, cls.worker):
            process.kill()
            process.wait()
            process.stdout.close()

    @classmethod
    def check(cls, service):
        return cls.health.Check(health_pb2.HealthCheckRequest(service=service)).status

    def request(self, query, **fields):
        return self.pb.GenerateRequest(
            messages=[self.pb.Message(role="user", content=query)], **fields
        )

    def test_generate_streams_typed_events(self):
        events = list(self.gateway.Generate(self.request("stub tokens=3 text=%;")))
        self.assertEqual(events[0].WhichOneof("event"), "started")
        self.assertEqual(events[-1].WhichOneof("event"), "finished")
        self.assertEqual("".join(e.tokens.text for e in events), "1;2;3;")

    def test_route_explains(self):
        response = self.gateway.Route(
            self.pb.RouteRequest(messages=[self.pb.Message(role="user", content="12 * 3")])
        )
        self.assertEqual(response.node, "sum")
        self.assertGreater(response.decisions[0].probability, 0.5)

    def test_errors_are_canonical(self):
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.gateway.Generate(self.request("x", max_tokens=-1)))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn("max_tokens", caught.exception.details())

    def test_deadline(self):
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.gateway.Generate(self.request("stub first_us=5000000", node="talk"), timeout=0.3))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_health_is_green_only_with_a_graph(self):
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        serving = health_pb2.HealthCheckResponse.SERVING
        self.assertEqual(self.health_before, not_serving)
        for service in ("", "octogate.v1.Gateway"):
            end = time.monotonic() + 10
            while self.check(service) != serving and time.monotonic() < end:
                time.sleep(0.02)
            self.assertEqual(self.check(service), serving)

    def test_reflection_describes_the_services(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.assertLessEqual(
            {"octogate.v1.Gateway", "octogate.v1.Admin"}, set(database.get_services())
        )
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("octogate.v1.Gateway")
        self.assertEqual(
            [m.name for m in service.methods],
            ["Generate", "Route", "Embed", "ListModels", "Feedback", "LinkSchema"],
        )


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
