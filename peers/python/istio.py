"""What Istio makes of an EnvoyFilter: a configuration of Envoy with its filters, on standard output.

    istio.py ENVOYFILTER ENVOY

Takes the listener and the clusters of ENVOY, a static configuration, in place of those that Istio would generate, and puts the filters
of ENVOYFILTER in front of the router, in their order.
"""

import json
import sys

import yaml

envoyfilter, envoy = (yaml.safe_load(open(path, encoding="utf-8")) for path in sys.argv[1:])
assert envoyfilter["kind"] == "EnvoyFilter", envoyfilter["kind"]

filters = []
for patch in envoyfilter["spec"]["configPatches"]:
    before = patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
    place = (patch["applyTo"], patch["patch"]["operation"], before)
    assert place == ("HTTP_FILTER", "INSERT_BEFORE", "envoy.filters.http.router"), place
    filters.append(patch["patch"]["value"])

resources = envoy["static_resources"]
manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
router = manager["http_filters"][-1]
manager["http_filters"] = [*filters, router]

# Istio has a cluster for each port of each Service, under a name of its own.
asked = filters[-1]["typed_config"]["http_service"]["server_uri"]["cluster"]
for cluster in resources["clusters"]:
    if cluster["name"] == "tokenward":
        cluster["name"] = asked
json.dump(envoy, sys.stdout, indent=1)
