"""Print the JSON Schema of a journey file; ``journey.schema.json`` beside this file is that."""

import json

from client_sdk.experience.journeys.tables import journey_schema

if __name__ == "__main__":
    print(json.dumps(journey_schema(), indent=2))
