// A real OpenID Connect provider (oidc-provider) on loopback, driven by lines of JSON.
//
// It prints {"issuer", "kids"} once it listens. Commands on stdin, each answered with one line:
//   {"rotate": "keep"}   sign with new keys from now on and go on publishing the old ones
//   {"rotate": "drop"}   sign with new keys and publish them alone
// The answer is {"kids": [...]}, the published ones, newest first. It ends when stdin is closed.
//
// Tokens come from POST /token with the client credentials grant of client `svc`, secret `svc-secret`. The resource says
// what to issue: https://api.test/<alg>/<lifetime in seconds>/<audience>.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { randomBytes } from 'node:crypto';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider, errors } from 'oidc-provider';

const ALGORITHMS = ['RS256', 'ES256'];

async function generateKeys() {
  return Promise.all(
    ALGORITHMS.map(async (alg) => {
      const { privateKey } = await generateKeyPair(alg, { extractable: true });
      const kid = `${alg.toLowerCase()}-${randomBytes(6).toString('hex')}`;
      return { ...(await exportJWK(privateKey)), kid, alg, use: 'sig' };
    }),
  );
}

function resourceServer(resource) {
  const found = /^https:\/\/api\.test\/([A-Z0-9]+)\/(\d+)\/([\w-]+)$/.exec(resource);
  if (!found) throw new errors.InvalidTarget();
  const [, alg, lifetime, audience] = found;
  // The newest key of that algorithm is the first.
  const { kid } = keys.find((key) => key.alg === alg);
  return {
    scope: 'read write',
    audience,
    accessTokenTTL: Number(lifetime),
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg, kid } },
  };
}

function newProvider() {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [
      {
        client_id: 'svc',
        client_secret: 'svc-secret',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: 'client_secret_post',
      },
    ],
    scopes: ['read', 'write'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: (ctx, resource) => resourceServer(resource) },
    },
  });
  return provider.callback();
}

// Standard output speaks JSON alone; the provider's warnings about a plain-HTTP issuer belong elsewhere.
for (const method of ['info', 'warn', 'log']) console[method] = console.error;
const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

let keys = await generateKeys();
let handle;
const server = createServer((request, response) => handle(request, response));
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
handle = newProvider();
const kids = () => keys.map((key) => key.kid);
answer({ issuer, kids: kids() });

for await (const line of createInterface({ input: process.stdin })) {
  const { rotate } = JSON.parse(line);
  const fresh = await generateKeys();
  keys = rotate === 'keep' ? [...fresh, ...keys] : fresh;
  handle = newProvider();
  answer({ kids: kids() });
}
process.exit(0);
