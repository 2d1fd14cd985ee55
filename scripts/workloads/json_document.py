# A JSON document of 20 MB, written and read again.
import json

RECORDS = 147_000


def records():
    return [{"id": i, "name": f"record {i}", "tags": ["red", "green", str(i % 1000)], "price": i / 7,
             "place": {"row": i // 100, "column": i % 100}} for i in range(RECORDS)]


def write_and_read(document):
    return json.loads(json.dumps(document))


write_and_read(records())
