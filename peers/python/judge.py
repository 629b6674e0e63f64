#!/usr/bin/env python3
"""PyJWT's verdicts. Reads {issuer, audience, algorithms, tokens} with `jwks`, a set, or `jwks_url`, where to fetch one.

Prints a list with null for each token that is accepted and the reason for each that is not.
"""

import json
import sys

import jwt

request = json.load(sys.stdin)


def keys_of_the_set():
    keys = [jwt.PyJWK(key) for key in request["jwks"]["keys"]]

    def select(token: str):
        header = jwt.get_unverified_header(token)
        if "kid" in header:
            fitting = [key for key in keys if key.key_id == header["kid"]]
        else:
            # PyJWT leaves this to its callers; the usual rule is that exactly one key must fit.
            fitting = [key for key in keys if key.algorithm_name == header.get("alg")]
        if len(fitting) != 1:
            raise jwt.InvalidTokenError(f"{len(fitting)} keys fit")
        return fitting[0]

    return select


select_key = jwt.PyJWKClient(request["jwks_url"]).get_signing_key_from_jwt if "jwks_url" in request else keys_of_the_set()


def verdict(token: str) -> str | None:
    try:
        jwt.decode(
            token,
            select_key(token),
            algorithms=request["algorithms"],
            audience=request["audience"],
            issuer=request["issuer"],
            leeway=60,
            options={"require": ["exp"]},
        )
    except Exception as error:  # whatever it raises, it did not accept the token
        return f"{type(error).__name__}: {error}"
    return None


json.dump([verdict(token) for token in request["tokens"]], sys.stdout)
