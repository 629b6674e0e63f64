#!/usr/bin/env python3
"""Prints a corpus of tokens as JSON: {issuer, audience, jwks, tokens: [{name, token, expect}]}.

Every signature algorithm gets a valid token and every way of spoiling its signature; header, claims and encoding are
spoiled in tokens whose signature is good over exactly those bytes, so that it is the rule under test that refuses them.
`expect` is `accept`, `refuse`, or `either` where verifiers may differ and only the comparison counts.
"""

import base64
import hashlib
import hmac
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

ISSUER = "https://issuer.test"
AUDIENCE = "my-api"
NOW = int(time.time())

HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
CURVE_NAMES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
ORDERS = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16),
    "ES512": int("1" + "f" * 65 + "a51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409", 16),
}
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64_number(number: int, size: int | None = None) -> str:
    return b64(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def coordinate_size(alg: str) -> int:
    return (CURVES[alg].key_size + 7) // 8


def generate(alg: str):
    if alg[:2] in ("RS", "PS"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(CURVES[alg]) if alg in CURVES else ed25519.Ed25519PrivateKey.generate()


def public_jwk(alg: str, key) -> dict:
    jwk = {"kid": alg.lower(), "use": "sig", "alg": alg}
    if alg[:2] in ("RS", "PS"):
        numbers = key.public_key().public_numbers()
        return jwk | {"kty": "RSA", "n": b64_number(numbers.n), "e": b64_number(numbers.e)}
    if alg in CURVES:
        numbers, size = key.public_key().public_numbers(), coordinate_size(alg)
        x, y = b64_number(numbers.x, size), b64_number(numbers.y, size)
        return jwk | {"kty": "EC", "crv": CURVE_NAMES[alg], "x": x, "y": y}
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return jwk | {"kty": "OKP", "crv": "Ed25519", "x": b64(raw)}


def signature(alg: str, key, data: bytes) -> bytes:
    if alg == "EdDSA":
        return key.sign(data)
    digest = HASHES[alg[2:]]
    if alg.startswith("RS"):
        return key.sign(data, padding.PKCS1v15(), digest)
    if alg.startswith("PS"):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    size = coordinate_size(alg)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


KEYS = {alg: generate(alg) for alg in ALGORITHMS}
STRANGER = {alg: generate(alg) for alg in ("RS256", "ES256")}
tokens: list[dict] = []


def header(alg: str, /, **members) -> dict:
    return {"alg": alg, "kid": alg.lower(), "typ": "at+jwt"} | members


def claims(**members) -> dict:
    base = {"iss": ISSUER, "sub": "user-1", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 3600, "jti": "t-1"}
    return {name: value for name, value in (base | members).items() if value is not ...}


def encoded(part) -> str:
    """A part of a token: JSON of an object, UTF-8 of a text, or the bytes as they are."""
    if isinstance(part, bytes):
        return b64(part)
    return b64((part if isinstance(part, str) else json.dumps(part, separators=(",", ":"))).encode())


def sign(head, body, alg: str = "ES256", key=None) -> str:
    data = f"{encoded(head)}.{encoded(body)}"
    return f"{data}.{b64(signature(alg, key or KEYS[alg], data.encode()))}"


def add(expect: str, name: str, token: str) -> None:
    tokens.append({"name": name, "token": token, "expect": expect})


def spoil_signatures(alg: str) -> None:
    good = sign(header(alg), claims(), alg)
    data, _, tail = good.rpartition(".")
    raw = base64.urlsafe_b64decode(tail + "==")
    add("accept", f"{alg} valid", good)
    add("accept", f"{alg} without kid", sign({"alg": alg}, claims(), alg))

    flipped = {"first": 0, "middle": len(raw) // 2, "last": len(raw) - 1}
    spoiled = {f"{place} bit flipped": raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for place, at in flipped.items()}
    spoiled |= {
        "empty": b"",
        "one byte": raw[:1],
        "cut by one byte": raw[:-1],
        "longer by a zero": raw + b"\0",
        "zero in front": b"\0" + raw,
        "halved": raw[: len(raw) // 2],
        "doubled": raw + raw,
        "all zeros": bytes(len(raw)),
        "all ones": b"\xff" * len(raw),
        "of other claims": signature(alg, KEYS[alg], f"{encoded(header(alg))}.{encoded(claims(sub='root'))}".encode()),
        "of the header alone": signature(alg, KEYS[alg], encoded(header(alg)).encode()),
    }
    if alg.startswith(("RS", "PS")):
        other = ("PS" if alg.startswith("RS") else "RS") + alg[2:]
        spoiled["with the other RSA padding"] = signature(other, KEYS[alg], data.encode())
        hash_of_other = "512" if alg[2:] != "512" else "256"
        spoiled["with another hash"] = signature(alg[:2] + hash_of_other, KEYS[alg], data.encode())
        modulus = KEYS[alg].public_key().public_numbers().n
        spoiled["plus the modulus"] = (int.from_bytes(raw, "big") + modulus).to_bytes(len(raw) + 1, "big")
    if alg.startswith("PS"):
        digest = HASHES[alg[2:]]
        short = padding.PSS(padding.MGF1(digest), 0)
        spoiled["with no salt"] = KEYS[alg].sign(data.encode(), short, digest)
        mixed = padding.PSS(padding.MGF1(hashes.SHA1()), digest.digest_size)
        spoiled["with SHA-1 in the mask"] = KEYS[alg].sign(data.encode(), mixed, digest)
    if alg in CURVES:
        size, order = coordinate_size(alg), ORDERS[alg]
        r, s = raw[:size], raw[size:]
        whole = order.to_bytes(size, "big")
        zero = bytes(size)
        spoiled |= {
            "in DER": utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")),
            "r is zero": zero + s,
            "s is zero": r + zero,
            "r is the order": whole + s,
            "s is the order": r + whole,
            "both are the order": whole + whole,
            "r and s exchanged": s + r,
            "coordinates a byte too long": b"\0" + r + b"\0" + s,
        }
    if alg == "EdDSA":
        s = int.from_bytes(raw[32:], "little") + ED25519_ORDER
        spoiled["s plus the order"] = raw[:32] + s.to_bytes(32, "little")
        spoiled["small order R"] = b"\1" + bytes(31) + raw[32:]
    for name, value in spoiled.items():
        add("refuse", f"{alg} signature {name}", f"{data}.{b64(value)}")

    add("refuse", f"{alg} without the last dot", data)
    add("refuse", f"{alg} claims exchanged", f"{encoded(header(alg))}.{encoded(claims(sub='root'))}.{tail}")
    add("refuse", f"{alg} header exchanged", f"{encoded(header(alg, typ='JWT'))}.{encoded(claims())}.{tail}")
    add("refuse", f"{alg} in lower case", sign(header(alg, alg=alg.lower()), claims(), alg))
    for other in ALGORITHMS:
        if other != alg:
            add("refuse", f"{alg} signature, kid of {other}", sign(header(alg, kid=other.lower()), claims(), alg))
            add("refuse", f"{alg} signature, header {other}", sign(header(other, kid=alg.lower()), claims(), alg))


def spoil_algorithms() -> None:
    body = encoded(claims())
    good_tail = sign(header("ES256"), claims()).rpartition(".")[2]
    for none in ("none", "None", "NONE", "nOnE", "noNE", ""):
        head = encoded({"alg": none, "kid": "es256"})
        add("refuse", f"alg {none!r} without signature", f"{head}.{body}.")
        add("refuse", f"alg {none!r} without last dot", f"{head}.{body}")
        add("refuse", f"alg {none!r} with a signature", f"{head}.{body}.{good_tail}")
        add("refuse", f"alg {none!r} without kid", f"{encoded({'alg': none})}.{body}.")
    for odd in (None, 1, True, ["ES256"], {"alg": "ES256"}, "ES256 ", " ES256", "ES256\0", "ES257", "es256", "ECDSA", "RS1"):
        add("refuse", f"alg {odd!r}", sign(header("ES256", alg=odd), claims()))
    add("refuse", "alg missing", sign({"kid": "es256"}, claims()))
    for alg, key in KEYS.items():
        public = key.public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        jwk = public_jwk(alg, key)
        secrets = {
            "PEM": public.public_bytes(serialization.Encoding.PEM, info),
            "PEM without its end": public.public_bytes(serialization.Encoding.PEM, info).rstrip(),
            "DER": public.public_bytes(serialization.Encoding.DER, info),
            "JWK": json.dumps(jwk).encode(),
            "first member": (jwk.get("n") or jwk["x"]).encode(),
            "empty": b"",
        }
        for name, secret in secrets.items():
            for hash_name in ("sha256", "sha512"):
                head = encoded({"alg": "HS" + hash_name[3:], "kid": alg.lower()})
                tag = hmac.new(secret, f"{head}.{body}".encode(), getattr(hashlib, hash_name)).digest()
                add("refuse", f"HMAC {hash_name} with {alg} public key as {name}", f"{head}.{body}.{b64(tag)}")


def spoil_headers() -> None:
    def with_header(expect: str, name: str, head) -> None:
        add(expect, f"header: {name}", sign(head, claims()))

    good = json.dumps(header("ES256"))
    with_header("accept", "with blanks", json.dumps(header("ES256"), indent=2))
    with_header("accept", "unknown member", header("ES256", extra={"deep": [1, 2]}))
    with_header("accept", "without typ", {"alg": "ES256", "kid": "es256"})
    with_header("accept", "typ JWT", header("ES256", typ="JWT"))
    with_header("accept", "typ in capitals with prefix", header("ES256", typ="APPLICATION/AT+JWT"))
    for typ in ("logout+jwt", "dpop+jwt", "secevent+jwt", "parent+jwt"):
        for form in (typ, typ.upper(), "application/" + typ):
            with_header("refuse", f"typ {form}", header("ES256", typ=form))
    for odd in (1, None, True, ["JWT"], {}):
        with_header("refuse", f"typ {odd!r}", header("ES256", typ=odd))
    for odd in (1, None, True, ["es256"], {}, "", "ES256", "es256 ", "es256\0", "../../dev/null", "' OR 1=1 --", "x" * 300, "ｅs256"):
        with_header("refuse", f"kid {str(odd)[:20]!r}", header("ES256", kid=odd))
    for odd in (["exp"], [], "exp", ["alg"], ["b64"], ["extra", "extra"], [1], None, {}, True):
        with_header("refuse", f"crit {odd!r}", header("ES256", crit=odd, extra=1))
    with_header("refuse", "crit names an unknown member", header("ES256", crit=["extra"], extra=1))
    with_header("refuse", "b64 false", header("ES256", b64=False, crit=["b64"]))
    with_header("refuse", "b64 false without crit", header("ES256", b64=False))
    with_header("refuse", "zip", header("ES256", zip="DEF"))
    with_header("refuse", "jku", header("ES256", jku="https://issuer.test/jwks"))
    with_header("refuse", "x5u", header("ES256", x5u="https://issuer.test/cert"))
    with_header("either", "x5c", header("ES256", x5c=["AAAA"]))
    with_header("either", "cty JWT", header("ES256", cty="JWT"))
    for alg, key in STRANGER.items():
        own = public_jwk(alg, key) | {"kid": "stranger"}
        for kid in ("stranger", alg.lower()):
            add("refuse", f"header: jwk of a stranger, {alg}, kid {kid}", sign(header(alg, jwk=own, kid=kid), claims(), alg, key))
        add("refuse", f"header: key of a stranger, {alg}", sign(header(alg), claims(), alg, key))
        add("refuse", f"header: key of a stranger without kid, {alg}", sign({"alg": alg}, claims(), alg, key))
    texts = {
        "alg twice": '{"alg":"none","alg":"ES256","kid":"es256"}',
        "alg twice, same": '{"alg":"ES256","alg":"ES256","kid":"es256"}',
        "kid twice": '{"alg":"ES256","kid":"other","kid":"es256"}',
        "alg twice by an escape": '{"alg":"ES256","\\u0061lg":"ES256","kid":"es256"}',
        "unknown member twice": '{"alg":"ES256","kid":"es256","x":1,"x":2}',
        "deep member twice": '{"alg":"ES256","kid":"es256","x":{"y":1,"y":2}}',
        "array": '["ES256"]',
        "string": '"ES256"',
        "number": "1",
        "null": "null",
        "empty": "",
        "empty object": "{}",
        "not JSON": "alg=ES256",
        "cut": good[:-1],
        "second value": good + "{}",
        "text after": good + "x",
        "byte order mark": "\ufeff" + good,
        "comment": good.replace("{", "{/**/"),
        "trailing comma": good[:-1] + ",}",
        "single quotes": good.replace('"', "'"),
        "lone surrogate": good[:-1] + ',"x":"\\ud800"}',
        "NaN": good[:-1] + ',"x":NaN}',
        "40 levels": good[:-1] + ',"x":' + "[" * 40 + "]" * 40 + "}",
        "2,000 levels": good[:-1] + ',"x":' + "[" * 2000 + "]" * 2000 + "}",
    }
    for name, text in texts.items():
        with_header("refuse", name, text)
    with_header("refuse", "invalid UTF-8", good[:-1].encode() + b',"x":"\xff"}')
    with_header("refuse", "over-long UTF-8", good[:-1].encode() + b',"x":"\xc0\xaf"}')
    with_header("refuse", "UTF-16", good.encode("utf-16"))


def spoil_claims() -> None:
    def with_claims(expect: str, name: str, body, alg: str = "ES256") -> None:
        add(expect, f"claims: {name}", sign(header(alg), body, alg))

    good = json.dumps(claims())
    with_claims("accept", "with blanks", json.dumps(claims(), indent=2))
    with_claims("accept", "without sub and jti", claims(sub=..., jti=...))
    with_claims("accept", "without iat", claims(iat=...))
    with_claims("accept", "audience in a list", claims(aud=["other", AUDIENCE]))
    with_claims("accept", "custom members", claims(groups=["ops", "ü", "𝄞"], deep={"a": {"b": [1, 2.5, None, True]}}))
    with_claims("accept", "expired within the leeway", claims(exp=NOW - 20))
    with_claims("accept", "not before within the leeway", claims(nbf=NOW + 20))
    with_claims("accept", "fractional times", claims(exp=NOW + 3600.5, iat=NOW - 0.5, nbf=NOW - 10.25))
    with_claims("accept", "escaped names", good.replace('"iss"', '"\\u0069ss"'))

    with_claims("refuse", "expired", claims(iat=NOW - 7200, exp=NOW - 3600))
    with_claims("refuse", "expired beyond the leeway", claims(exp=NOW - 90))
    with_claims("refuse", "not before", claims(nbf=NOW + 3600))
    with_claims("refuse", "issued in the future", claims(iat=NOW + 3600, exp=NOW + 7200))
    times = {"null": None, "text": str(NOW + 3600), "true": True, "list": [], "object": {}, "negative": -1, "huge": 10**20, "empty": ""}
    for claim in ("exp", "nbf", "iat"):
        for name, value in times.items():
            with_claims("refuse", f"{claim} is {name}", claims(**{claim: value}))
        for text in ("1e400", "-1e400", "NaN", "Infinity", "-Infinity", "0x7fffffff", "9007199254740993e300", "1e", ".5", "+1"):
            plain = json.dumps(claims(**{claim: 12345}))
            with_claims("refuse", f"{claim} is {text}", plain.replace("12345", text))
    with_claims("refuse", "exp missing", claims(exp=...))
    with_claims("refuse", "exp is zero", claims(exp=0))
    for name, value in {
        "missing": ..., "null": None, "a number": 1, "true": True, "an object": {AUDIENCE: 1}, "an empty list": [], "empty": "",
        "another": "other", "a prefix": "my-ap", "longer": "my-api2", "in capitals": "MY-API", "with a blank": "my-api ",
        "a list of others": ["other", "my"], "a list with a number": [AUDIENCE, 1], "a list with null": [None, AUDIENCE],
        "a nested list": [[AUDIENCE]], "blank separated": f"other {AUDIENCE}",
    }.items():
        with_claims("refuse", f"aud is {name}", claims(aud=value))
    for name, value in {
        "missing": ..., "null": None, "a number": 1, "a list": [ISSUER], "an object": {}, "empty": "", "another": "https://other.test",
        "with a slash": ISSUER + "/", "with a port": ISSUER + ":443", "in capitals": ISSUER.upper(), "a prefix": ISSUER[:-1],
        "longer": ISSUER + ".evil.test", "with a blank": ISSUER + " ", "of another scheme": ISSUER.replace("https", "http"),
    }.items():
        with_claims("refuse", f"iss is {name}", claims(iss=value))
    for claim in ("sub", "jti"):
        for value in (1, None, True, [], {}):
            with_claims("either" if value is None else "refuse", f"{claim} is {value!r}", claims(**{claim: value}))
    with_claims("refuse", "bound to a key", claims(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}))
    with_claims("refuse", "bound to a certificate", claims(cnf={"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}))
    texts = {
        "array": f"[{good}]",
        "string": json.dumps(good),
        "number": "1",
        "null": "null",
        "true": "true",
        "empty": "",
        "empty object": "{}",
        "not JSON": "sub=root",
        "cut": good[:-1],
        "second value": good + good,
        "text after": good + "x",
        "byte order mark": "\ufeff" + good,
        "sub twice": good[:-1] + ',"sub":"root"}',
        "sub twice by an escape": good[:-1] + ',"\\u0073ub":"root"}',
        "custom member twice": good[:-1] + ',"role":"user","role":"admin"}',
        "deep member twice": good[:-1] + ',"x":[{"role":"user","role":"admin"}]}',
        "lone surrogate": good[:-1] + ',"x":"\\ud800"}',
        "lone low surrogate in a name": good[:-1] + ',"\\udc00":1}',
        "trailing comma": good[:-1] + ",}",
        "comment": good[:-1] + "/**/}",
        "control character in a string": good[:-1] + ',"x":"a\nb"}',
        "40 levels": good[:-1] + ',"x":' + "[" * 40 + "]" * 40 + "}",
        "2,000 levels": good[:-1] + ',"x":' + '{"x":' * 2000 + "1" + "}" * 2000 + "}",
        "larger than 16 KiB": good[:-1] + ',"x":"' + "x" * 17000 + '"}',
    }
    for name, text in texts.items():
        with_claims("refuse", name, text)
    with_claims("refuse", "invalid UTF-8", good[:-1].encode() + b',"x":"\xff"}')
    with_claims("refuse", "surrogate in UTF-8", good[:-1].encode() + b',"x":"\xed\xa0\x80"}')
    with_claims("refuse", "UTF-16", good.encode("utf-16"))


def spoil_encodings() -> None:
    good = sign(header("ES256"), claims())
    head, body, tail = good.split(".")

    def resigned(name: str, head_text: str, body_text: str) -> None:
        """The signature is good over the spoiled text."""
        data = f"{head_text}.{body_text}"
        add("refuse", f"encoding: {name}", f"{data}.{b64(signature('ES256', KEYS['ES256'], data.encode()))}")

    def next_letter(text: str) -> str:
        """The same bytes, with an unused bit set in the last letter."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]

    # Padded with blanks so that the last letter has unused bits, whatever the length of the JSON is.
    loose_head, loose_body = json.dumps(header("ES256")), json.dumps(claims())
    loose_head += " " * ((1 - len(loose_head)) % 3)
    loose_body += " " * ((1 - len(loose_body)) % 3)
    resigned("padded header", encoded(loose_head) + "==", body)
    resigned("padded claims", head, encoded(loose_body) + "==")
    resigned("unused bits in the header", next_letter(encoded(loose_head)), body)
    resigned("unused bits in the claims", head, next_letter(encoded(loose_body)))
    add("refuse", "encoding: padded signature", good + "==")
    add("refuse", "encoding: unused bits in the signature", next_letter(good))
    plus = encoded(json.dumps(claims(x="~~~???>>>"), ensure_ascii=False))
    resigned("standard alphabet in the claims", head, plus.replace("-", "+").replace("_", "/") if set("-_") & set(plus) else plus + "+")
    for name, odd in {"blank": " ", "newline": "\n", "tab": "\t", "NUL": "\0", "question mark": "?", "non-ASCII": "é", "percent": "%41"}.items():
        resigned(f"{name} in the header", head[:8] + odd + head[8:], body)
        resigned(f"{name} in the claims", head, body[:8] + odd + body[8:])
        add("refuse", f"encoding: {name} in the signature", f"{head}.{body}.{tail[:8]}{odd}{tail[8:]}")
        add("refuse", f"encoding: {name} in front", odd + good)
        add("refuse", f"encoding: {name} at the end", good + odd)
    for name, text in {
        "empty": "", "a dot": ".", "two dots": "..", "three dots": "...", "thousand dots": "." * 1000, "one part": head, "two parts": f"{head}.{body}",
        "four parts": good + ".AAAA", "five parts": f"{head}..{body}.{tail}.AAAA", "empty header": f".{body}.{tail}", "empty claims": f"{head}..{tail}",
        "a trailing dot": good + ".", "a leading dot": "." + good, "scheme in front": "Bearer " + good, "quoted": f'"{good}"', "twice": f"{good},{good}",
        "JSON, flattened": json.dumps({"protected": head, "payload": body, "signature": tail}),
        "JSON, general": json.dumps({"payload": body, "signatures": [{"protected": head, "signature": tail}]}),
        "JSON that splits on dots": json.dumps({"a": f".{head}.{body}.", "payload": body, "protected": head, "signature": tail}),
        "length of one letter": f"{head[:1]}.{body[:1]}.{tail[:1]}",
    }.items():
        add("refuse", f"encoding: {name}", text)


for algorithm in ALGORITHMS:
    spoil_signatures(algorithm)
spoil_algorithms()
spoil_headers()
spoil_claims()
spoil_encodings()
jwks = {"keys": [public_jwk(algorithm, key) for algorithm, key in KEYS.items()]}
print(json.dumps({"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ALGORITHMS, "jwks": jwks, "tokens": tokens}))
