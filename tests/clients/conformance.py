"""Google's own clients against the simulator: what they make of its answers is what they would make of Google's. And the
strict parser of OpenMetrics against a worker.

Run by tests/clients/run.sh with the path of the binary. Nothing but 127.0.0.1 is called.
"""

import json
import os
import subprocess
import sys
import unittest
import urllib.parse
import urllib.request

from google.api_core import exceptions, operation
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import dialogflow_v2, dialogflow_v2beta1
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from prometheus_client.openmetrics.parser import text_string_to_metric_families

PARENT = "projects/p/locations/global"
SIMULATOR = ""
BINARY = ""


class Anonymous(AnonymousCredentials):
    """No credentials, also after a 401: the client then renews them and tries again."""

    def refresh(self, request):
        pass


def name(script, test):
    return f"{PARENT}/operations/{script}-{test.id().removeprefix('__main__.')}"


def control(path):
    with urllib.request.urlopen(f"{SIMULATOR}/control/{path}", timeout=10) as answer:
        return json.load(answer)


def calls(operation_name):
    return control("calls?id=" + urllib.parse.quote(operation_name, safe=""))


class Dialogflow(unittest.TestCase):
    """google-cloud-dialogflow over its REST transport."""

    library = dialogflow_v2beta1

    def setUp(self):
        self.client = self.library.DocumentsClient(
            transport="rest", credentials=Anonymous(), client_options={"api_endpoint": SIMULATOR}
        )

    def tearDown(self):
        self.client.transport.close()

    def get(self, operation_name):
        return self.client.get_operation({"name": operation_name})

    def cancel(self, operation_name):
        return self.client.cancel_operation({"name": operation_name})

    def future(self, operation_name):
        return operation.from_gapic(
            self.get(operation_name),
            self.client.transport.operations_client,
            self.library.Document,
            metadata_type=self.library.KnowledgeOperationMetadata,
        )

    def test_a_cancel_has_no_body_and_answers_nothing(self):
        cancelled = name("cancels-1m", self)
        self.assertIsNone(self.cancel(cancelled))
        self.assertEqual((calls(cancelled)["cancel_calls"], calls(cancelled)["content_length"]), (1, 0))

    def test_an_operation_is_running_with_typed_metadata_until_it_is_done(self):
        running = self.get(name("completes", self))
        self.assertEqual((running.name, running.done, running.WhichOneof("result")), (name("completes", self), False, None))
        self.assertTrue(running.metadata.type_url.endswith(".KnowledgeOperationMetadata"))
        self.assertEqual(self.future(running.name).metadata.state, self.library.KnowledgeOperationMetadata.State.RUNNING)

    def test_waiting_for_an_operation_that_completes_gives_its_response(self):
        completes = name("completes-300ms", self)
        self.cancel(completes)
        future = self.future(completes)
        self.assertEqual(future.result(timeout=20).display_name, "finished all the same")
        self.assertFalse(future.cancelled())
        self.assertEqual(future.metadata.state, self.library.KnowledgeOperationMetadata.State.DONE)

    def test_waiting_for_an_operation_that_is_cancelled_says_so(self):
        cancels = name("cancels-300ms", self)
        self.cancel(cancels)
        future = self.future(cancels)
        with self.assertRaises(exceptions.GoogleAPICallError) as raised:
            future.result(timeout=20)
        self.assertIsInstance(raised.exception, exceptions.Cancelled)
        self.assertTrue(future.cancelled())

    def test_an_operation_s_own_error_is_a_google_rpc_status(self):
        fails = name("errs-9", self)
        self.cancel(fails)
        done = self.get(fails)
        self.assertEqual((done.done, done.WhichOneof("result"), done.error.code), (True, "error", 9))
        for script, result in [("empty", None), ("emptyerror", "error")]:
            self.cancel(name(script, self))
            done = self.get(name(script, self))
            self.assertEqual((done.done, done.WhichOneof("result"), done.error.code), (True, result, 0))

    def test_each_error_is_the_exception_that_google_s_own_would_be(self):
        for script, kind, code in [
            ("notfound", exceptions.NotFound, 404),
            ("denied", exceptions.Forbidden, 403),
            ("unimplemented", exceptions.MethodNotImplemented, 501),
            ("unauthenticated", exceptions.Unauthorized, 401),
            ("invalid", exceptions.BadRequest, 400),
            ("precondition", exceptions.BadRequest, 400),
            ("outofrange", exceptions.BadRequest, 400),
            ("aborted", exceptions.Conflict, 409),
            ("exists", exceptions.Conflict, 409),
            ("limited", exceptions.TooManyRequests, 429),
            ("http499", exceptions.Cancelled, 499),
            ("internal", exceptions.InternalServerError, 500),
            ("flaky", exceptions.ServiceUnavailable, 503),
            ("deadline", exceptions.GatewayTimeout, 504),
            ("html404", exceptions.NotFound, 404),
            ("html502", exceptions.BadGateway, 502),
        ]:
            for verb, word in [(self.cancel, script), (self.get, script if script == "notfound" else script + "get")]:
                with self.subTest(script=script, verb=verb.__name__):
                    with self.assertRaises(kind) as raised:
                        verb(name(word, self))
                    self.assertEqual(raised.exception.code, code)

    def test_error_details_are_read(self):
        with self.assertRaises(exceptions.Forbidden) as raised:
            self.cancel(name("denied", self))
        error = raised.exception
        self.assertEqual((error.reason, error.domain), ("IAM_PERMISSION_DENIED", "googleapis.com"))
        with self.assertRaises(exceptions.TooManyRequests) as raised:
            self.cancel(name("limited-1500ms", self))
        waits = [detail["retryDelay"] for detail in raised.exception.details if "RetryInfo" in detail["@type"]]
        self.assertEqual(waits, ["1.500s"])

    def test_a_list_has_what_was_called_and_every_page_of_it(self):
        parent = f"projects/list-{self.library.__name__.rsplit('.', 1)[-1]}/locations/global"
        expected = [f"{parent}/operations/cancels-{index}x" for index in range(7)]
        for each in expected:
            self.get(each)
        self.cancel(expected[3])
        listed, token = [], ""
        while True:
            page = self.client.list_operations({"name": parent, "page_size": 3, "page_token": token})
            self.assertLessEqual(len(page.operations), 3)
            listed += page.operations
            token = page.next_page_token
            if not token:
                break
        self.assertEqual([each.name for each in listed], expected)
        self.assertEqual([each.done for each in listed], [each == expected[3] for each in expected])


class DialogflowV2(Dialogflow):
    """The same, in version v2."""

    library = dialogflow_v2


class Discovery(unittest.TestCase):
    """google-api-python-client with the discovery documents that it ships."""

    def operations(self, service, version):
        options = ClientOptions(api_endpoint=SIMULATOR)
        resource = build(
            service, version, credentials=Anonymous(), client_options=options, static_discovery=True
        )
        self.addCleanup(resource.close)
        return resource.projects().locations().operations()

    def test_every_service_of_the_same_shape_cancels_and_gets(self):
        for service, version, arguments in [
            ("dialogflow", "v2beta1", {}),
            ("dialogflow", "v2", {}),
            ("dialogflow", "v3", {}),
            ("aiplatform", "v1", {}),
            ("documentai", "v1", {}),
            # Of those with a body: it is the empty message.
            ("cloudbuild", "v2", {"body": {}}),
        ]:
            with self.subTest(service=service, version=version):
                operations = self.operations(service, version)
                cancelled = name(f"cancels-{service}-{version}", self)
                self.assertEqual(operations.cancel(name=cancelled, **arguments).execute(), {})
                done = operations.get(name=cancelled).execute()
                self.assertEqual((done["name"], done["done"], done["error"]["code"]), (cancelled, True, 1))
                self.assertEqual(calls(cancelled)["content_length"], 2 if arguments else 0)

    def test_false_is_left_out_as_proto3_does(self):
        running = self.operations("dialogflow", "v2beta1").get(name=name("never", self)).execute()
        self.assertEqual(sorted(running), ["metadata", "name"])

    def test_a_list_is_walked_page_by_page(self):
        operations = self.operations("dialogflow", "v2beta1")
        parent = "projects/pages/locations/global"
        expected = [f"{parent}/operations/x{index}" for index in range(5)]
        for each in expected:
            operations.get(name=each).execute()
        request, listed = operations.list(name=parent, pageSize=2), []
        while request is not None:
            page = request.execute()
            listed += [each["name"] for each in page.get("operations", [])]
            request = operations.list_next(request, page)
        self.assertEqual(listed, expected)

    def test_errors_keep_status_words_and_details(self):
        operations = self.operations("dialogflow", "v2beta1")
        for script, status, reason in [
            ("notfound", 404, "Requested entity was not found."),
            ("denied", 403, "The caller does not have permission"),
            ("unimplemented", 501, "Operation is not implemented, or supported, or enabled."),
            ("precondition", 400, "Precondition check failed."),
            ("aborted", 409, "The operation was aborted."),
        ]:
            with self.subTest(script=script):
                with self.assertRaises(HttpError) as raised:
                    operations.cancel(name=name(script, self)).execute()
                self.assertEqual((raised.exception.status_code, raised.exception.reason), (status, reason))
        with self.assertRaises(HttpError) as raised:
            operations.cancel(name=name("quota403", self)).execute(num_retries=0)
        kinds = [detail["@type"].rsplit(".", 1)[-1] for detail in raised.exception.error_details]
        self.assertEqual(kinds, ["ErrorInfo", "RetryInfo"])

    def test_a_flaky_service_is_retried_by_the_client_until_it_answers(self):
        flaky = name("flaky-1", self)
        self.assertEqual(self.operations("dialogflow", "v2beta1").cancel(name=flaky).execute(num_retries=2), {})
        self.assertEqual(calls(flaky)["cancel_calls"], 2)


class OpenMetrics(unittest.TestCase):
    """The strict parser of the format against a worker that has no broker: its metrics are all there from the start."""

    def test_a_scrape_in_open_metrics_is_read_to_its_end(self):
        environment = {**os.environ, "CANCEL_WORKER__AMQP__URI": "amqp://127.0.0.1:9", "CANCEL_WORKER__ADMIN__LISTEN": "127.0.0.1:0"}
        command = [BINARY, "run"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as worker:
            try:
                line = next(line for line in worker.stderr if "answering probes" in line)
                request = urllib.request.Request(
                    f"http://{json.loads(line)['address']}/metrics",
                    headers={"Accept": "application/openmetrics-text; version=1.0.0"},
                )
                with urllib.request.urlopen(request, timeout=10) as answer:
                    self.assertTrue(answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0"))
                    scrape = answer.read().decode()
            finally:
                worker.terminate()
        families = list(text_string_to_metric_families(scrape))
        self.assertIn("cancel_worker_results", [family.name for family in families])
        samples = sum(len(family.samples) for family in families)
        self.assertEqual(samples, sum(not line.startswith("#") for line in scrape.splitlines()))


def main(binary):
    global BINARY, SIMULATOR
    BINARY = binary
    command = [binary, "simulate", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            SIMULATOR = simulator.stdout.readline().strip()
            if not SIMULATOR:
                sys.exit("the simulator did not start")
            suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
            result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
            # A failed subtest stands for itself; the test around it is none that passed.
            failed = len(result.failures) + len(result.errors)
            broken = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
            unknown = control("stats")["unknown_calls"]
        finally:
            simulator.terminate()
    if unknown:
        print(f"the simulator did not know the URL of {unknown} calls")
        failed += 1
    word = "ok" if failed == 0 else "FAILED"
    # In cargo's form, which tests/run.sh counts.
    print(f"test result: {word}. {result.testsRun - len(broken)} passed; {failed} failed;")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(sys.argv[1])
