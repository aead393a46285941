"""The shipped graph and model, as a user meets them: octogate, octoctl, real answers.

Needs Python's standard library only. Usage: example_graph_test.py OCTOGATE OCTOCTL SOURCE_DIR
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest

OCTOGATE, OCTOCTL, SOURCE = sys.argv[1:4]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gateway:
    """A gateway process of its own, with its data in a temporary folder."""

    def __init__(self, data: str):
        self.server = f"127.0.0.1:{free_port()}"
        self.log = open(os.path.join(data, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [OCTOGATE, "--listen", self.server, "--metrics-address", f"127.0.0.1:{free_port()}",
             "--data-dir", os.path.join(data, "graphs"),
             "--model-root", os.path.join(SOURCE, "deploy/models")],
            stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while self.octoctl("--timeout", "1", "version").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError("octogate did not start:\n" + self.log.read())
            time.sleep(0.05)

    def octoctl(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run([OCTOCTL, "--server", self.server, *arguments], input=text,
                              capture_output=True, text=True, timeout=120, check=False)

    def ask(self, query: str, *options: str) -> dict:
        done = self.octoctl("ask", query, "-o", "json", *options)
        if done.returncode != 0:
            raise AssertionError(f"ask {query!r}: {done.stderr}")
        return json.loads(done.stdout)

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(timeout=60)
        self.log.close()
        return code


def events(trace: dict, kind: str) -> list[dict]:
    return [entry["event"][kind] for entry in trace["events"] if kind in entry["event"]]


def answer(trace: dict) -> tuple[str, str]:
    """The node that answered, and its text."""
    node = events(trace, "finished")[0]["node"]
    return node, "".join(t["text"] for t in events(trace, "tokens") if t["node"] == node)


class ExampleGraphTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.gateway = Gateway(cls.folder.name)
        cls.manifest = os.path.join(SOURCE, "deploy/graphs/example.yaml")
        applied = cls.gateway.octoctl("--timeout", "120", "apply", "-f", cls.manifest)
        assert applied.returncode == 0, applied.stderr

    @classmethod
    def tearDownClass(cls):
        assert cls.gateway.stop() == 0
        cls.folder.cleanup()

    def expect(self, query: str, node: str, text: str):
        got_node, got_text = answer(self.gateway.ask(query))
        self.assertEqual(got_node, node, f"{query!r} was answered: {got_text!r}")
        self.assertIn(text, got_text, query)

    def test_exact_arithmetic(self):
        self.expect("2^200 - 1", "calculator", str(2**200 - 1))
        self.expect("what is 12.5% of 1,880?", "calculator", "235")
        self.expect("what is 144 divided by 12", "calculator", "12")

    def test_dates_and_times(self):
        self.expect("what weekday was 20 July 1969?", "clock", "Sunday")
        self.expect("how many days between 2024-01-01 and 2025-01-01", "clock", "366")
        node, _ = answer(self.gateway.ask("what time is it in Tokyo?"))
        self.assertEqual(node, "clock")

    def test_shell_commands(self):
        self.expect("find files larger than 100 MB under /var", "shell", "find /var")
        self.expect("undo my last commit but keep the changes", "shell", "git reset --soft HEAD~1")

    def test_explanations(self):
        node, text = answer(self.gateway.ask("what does 'tar -xzf backup.tar.gz -C /tmp' do?"))
        self.assertEqual(node, "explain")
        self.assertTrue(text.strip())

    def test_a_rewritten_query_keeps_its_numbers(self):
        """A tool's second look never computes with other numbers than the query's."""
        for query, numbers in [("what is twelve percent of 250?", {"250"}),
                               ("split a bill of 84.60 between 4 people", {"84.60", "4"}),
                               ("take 17 away from 99 and double that", {"17", "99"})]:
            for decision in events(self.gateway.ask(query), "decision"):
                for number in numbers:
                    self.assertIn(number, decision["argument"], decision)

    def test_what_it_cannot_do_goes_to_the_fallback(self):
        for query in ["write me a poem about autumn", "who was the first president of France?",
                      "I feel sad today"]:
            node, text = answer(self.gateway.ask(query))
            self.assertEqual(node, "fallback", f"{query!r} was answered: {text!r}")

    def test_the_same_query_has_the_same_answer(self):
        query = "list the ten largest files in /var/log"
        first = answer(self.gateway.ask(query))
        for _ in range(3):
            self.assertEqual(answer(self.gateway.ask(query)), first)

    def test_decisions_explain_themselves(self):
        decision = events(self.gateway.ask("what is 17 * 23"), "decision")[0]
        self.assertEqual(decision["node"], "calculator")
        self.assertTrue(decision["reason"])
        self.assertGreater(decision["probability"], 0.5)
        self.assertTrue(decision["heads"][0]["scores"])
        routed = self.gateway.octoctl("route", "what is 17 * 23", "-o", "name")
        self.assertEqual(routed.stdout.strip(), "calculator")

    def test_traces_are_kept_and_drawn(self):
        asked = self.gateway.ask("what is 6 * 7")
        drawn = self.gateway.octoctl("explain", asked["traceId"])
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        for text in ["what is 6 * 7", "calculator", "42", "answer from"]:
            self.assertIn(text, drawn.stdout)
        self.assertEqual(self.gateway.octoctl("explain", "last").returncode, 0)
        self.assertEqual(self.gateway.octoctl("explain", "nosuchtrace").returncode, 4)

    def test_every_listing_in_every_format(self):
        for resource in ["graph", "nodes", "models", "versions", "traces"]:
            for form in ["table", "wide", "json", "yaml", "name"]:
                done = self.gateway.octoctl("get", resource, "-o", form)
                self.assertEqual(done.returncode, 0, done.stderr)
                if form == "json":
                    json.loads(done.stdout)
        names = self.gateway.octoctl("get", "nodes", "-o", "name").stdout.split()
        for name in names:
            described = self.gateway.octoctl("describe", "node", name)
            self.assertEqual(described.returncode, 0, described.stderr)
            self.assertIn("Ready", described.stdout)
            self.assertIn(name, self.gateway.octoctl("view").stdout)
            self.assertIn(name, self.gateway.octoctl("view", "-o", "dot").stdout)

    def test_a_model_of_the_process_says_how_it_runs_and_what_its_steps_cost(self):
        wide = self.gateway.octoctl("get", "models", "-o", "wide").stdout
        heading, row = wide.splitlines()[:2]
        for word in ("WEIGHTS", "KV", "STEP BY ROWS", "BACKEND"):
            self.assertIn(word, heading)
        self.assertRegex(row, r"octogate-mini .* stored +f32 +16 +1: .*cpu")
        described = self.gateway.octoctl("describe", "model", "octogate-mini").stdout
        self.assertRegex(described, r"Replica: +in-process")
        self.assertRegex(described, r"Step by rows: +1: [0-9.]+ (µs|ms), 2: ")
        self.assertRegex(described, r"Nodes: .*main.*shell")
        info = json.loads(self.gateway.octoctl("describe", "model", "octogate-mini", "-o",
                                               "json").stdout)["replicas"][0]["info"]
        self.assertEqual(info["weightFormat"], "stored")
        self.assertGreater(info["stepCosts"][0]["seconds"], 0)
        self.assertEqual(self.gateway.octoctl("describe", "model", "nowhere").returncode, 4)

    def test_exit_statuses_tell_scripts_what_happened(self):
        same = self.gateway.octoctl("diff", "-f", self.manifest)
        self.assertEqual((same.returncode, same.stdout), (0, ""))
        with open(self.manifest, encoding="utf-8") as file:
            text = file.read()
        changed = text.replace("name: calculator", "name: abacus")
        self.assertIn(self.gateway.octoctl("diff", "-f", "-", text=changed).returncode, (1, 3))
        broken = self.gateway.octoctl("apply", "-f", "-", text=text.replace("nodes:", "noeds:"))
        self.assertEqual(broken.returncode, 3)
        self.assertIn("did you mean 'nodes'", broken.stderr)
        self.assertIn("stdin:", broken.stderr)
        stale = self.gateway.octoctl("apply", "-f", self.manifest, "--expected-version", "99")
        self.assertEqual(stale.returncode, 5)
        self.assertEqual(self.gateway.octoctl("describe", "node", "nowhere").returncode, 4)
        self.assertEqual(self.gateway.octoctl("get", "planets").returncode, 2)
        self.assertEqual(self.gateway.octoctl("diff").returncode, 2)
        self.assertEqual(self.gateway.octoctl("diff", "--to", "1").returncode, 0)
        self.assertEqual(self.gateway.octoctl("apply", "-f", "/no/such/file").returncode, 2)

    def test_a_drained_node_takes_no_queries_until_it_is_back(self):
        self.assertEqual(self.gateway.octoctl("drain", "clock").returncode, 0)
        try:
            self.assertIn("Draining", self.gateway.octoctl("get", "nodes", "clock").stdout)
            done = self.gateway.octoctl("ask", "what weekday was 20 July 1969?", "-o", "json")
            if done.returncode == 0:
                self.assertNotEqual(answer(json.loads(done.stdout))[0], "clock")
        finally:
            self.assertEqual(self.gateway.octoctl("drain", "clock", "--undo").returncode, 0)
        self.expect("what weekday was 20 July 1969?", "clock", "Sunday")

    def test_a_change_can_be_rolled_back(self):
        with open(self.manifest, encoding="utf-8") as file:
            text = file.read()
        before = self.gateway.octoctl("get", "graph", "-o", "yaml").stdout
        changed = text.replace("metadata:\n", "metadata:\n  description: changed by a test\n", 1) \
            if "description:" not in text.split("spec:")[0] else \
            text.replace("description: ", "description: changed by a test, ", 1)
        applied = self.gateway.octoctl("apply", "-f", "-", text=changed)
        self.assertEqual(applied.returncode, 0, applied.stderr)
        self.assertIn("changed by a test", applied.stdout)
        rolled_back = self.gateway.octoctl("rollback")
        self.assertEqual(rolled_back.returncode, 0, rolled_back.stderr)
        self.assertEqual(self.gateway.octoctl("get", "graph", "-o", "yaml").stdout, before)

    def test_usage_counts_nodes_and_routing(self):
        # Tools and the lexical head read no tokens.
        free = events(self.gateway.ask("what is 17 * 23"), "finished")[0]
        self.assertEqual({int(count) for count in free["usage"].values()}, {0})
        for query in ["find files larger than 100 MB under /var", "I feel sad today"]:
            trace = self.gateway.ask(query)
            finished = events(trace, "finished")[0]
            for count in ["promptTokens", "completionTokens"]:
                def total(usages):
                    return sum(int(usage.get("usage", {}).get(count, 0)) for usage in usages)
                self.assertEqual(int(finished["usage"].get(count, 0)),
                                 total(events(trace, "nodeLeft")), query)
                self.assertEqual(int(finished.get("routingUsage", {}).get(count, 0)),
                                 total(events(trace, "decision")), query)
            self.assertGreater(int(finished["usage"]["promptTokens"]), 0)

    def test_queries_that_cannot_be_answered_are_refused(self):
        def ask(query: bytes) -> subprocess.CompletedProcess:
            return subprocess.run(
                [OCTOCTL, "--server", self.gateway.server, "ask", "--node", "shell", "-"],
                input=query, capture_output=True, timeout=120, check=False)
        for query, said in [(b"", b"empty"), (b"x" * (1 << 20), b"the context of 512"),
                            (b"x" * ((1 << 20) + 1), b"1048576"), (b"caf\xe9", b"UTF-8")]:
            done = ask(query)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn(said, done.stderr)
            self.assertTrue(all(line.startswith(b"octoctl: ") for line in done.stderr.splitlines()))
        self.assertEqual(self.gateway.octoctl("ask", "--node", "nowhere", "x").returncode, 4)
        late = self.gateway.octoctl("--timeout", "0.001", "ask", "list the files here")
        self.assertEqual(late.returncode, 6)

    def test_a_model_that_does_not_fit_is_refused_with_the_numbers(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [OCTOGATE, "--listen", "127.0.0.1:0", "--data-dir", folder, "--memory-limit",
                 "0.01", "--model-root", os.path.join(SOURCE, "deploy/models"), "--graph",
                 self.manifest], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"weights [0-9.]+ MiB .* exceed memory limit of 10.2 MiB")
        self.assertRegex(done.stderr, r"at least [0-9.]+ MiB are needed")

    def test_a_restarted_gateway_remembers_its_graph_and_what_is_drained(self):
        with tempfile.TemporaryDirectory() as folder:
            first = Gateway(folder)
            self.assertEqual(
                first.octoctl("--timeout", "120", "apply", "-f", self.manifest).returncode, 0)
            for arguments in [["clock"], ["shell"], ["shell", "--undo"]]:
                self.assertEqual(first.octoctl("drain", *arguments).returncode, 0)
            first.process.kill()
            first.process.wait()
            first.log.close()
            second = Gateway(folder)
            deadline = time.monotonic() + 60
            while second.octoctl("get", "graph").returncode != 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
            self.assertEqual(answer(second.ask("what is 6 * 7"))[1].strip(), "42")
            self.assertIn("Draining", second.octoctl("get", "nodes", "clock").stdout)
            self.assertIn("Ready", second.octoctl("get", "nodes", "shell").stdout)
            self.assertEqual(second.octoctl("drain", "clock", "--undo").returncode, 0)
            self.assertEqual(second.stop(), 0)
            third = Gateway(folder)
            while third.octoctl("get", "graph").returncode != 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
            self.assertIn("Ready", third.octoctl("get", "nodes", "clock").stdout)
            self.assertEqual(third.stop(), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
