"""Print the JSON Schema of a content file; ``content.schema.json`` beside this file is that."""

import json

from client_sdk.experience.content.variants import content_schema

if __name__ == "__main__":
    print(json.dumps(content_schema(), indent=2))
