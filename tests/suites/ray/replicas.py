"""Two replicas in a Ray of their own; a number on standard input is how many there shall be from then on."""

from __future__ import annotations

import sys

import ray
from ray import serve

from yeoul.integrations.ray_serve import Yeoul

port = int(sys.argv[1])
ray.init(num_cpus=4, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})


def run(num_replicas: int) -> None:
    replicas = Yeoul.options(num_replicas=num_replicas, ray_actor_options={"num_cpus": 0.5})
    serve.run(replicas.bind(model="fake", fake_step_seconds=0.05, drain_timeout_seconds=20.0), name="yeoul")


run(2)
print("READY", flush=True)
for line in sys.stdin:
    run(int(line))
    print("READY", flush=True)
