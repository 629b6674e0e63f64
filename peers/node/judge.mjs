// jose's verdicts. Reads {issuer, audience, algorithms, tokens} with `jwks`, a set, or `jwks_url`, where to fetch one.
// Prints a list with null for each token that is accepted and the reason for each that is not.
import { readFileSync } from 'node:fs';
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from 'jose';

const { issuer, audience, algorithms, tokens, jwks, jwks_url } = JSON.parse(readFileSync(0, 'utf8'));
const keys = jwks_url ? createRemoteJWKSet(new URL(jwks_url)) : createLocalJWKSet(jwks);

const verdicts = [];
for (const token of tokens) {
  try {
    await jwtVerify(token, keys, { issuer, audience, algorithms, clockTolerance: 60, requiredClaims: ['exp'] });
    verdicts.push(null);
  } catch (error) {
    verdicts.push(`${error.code ?? error.name}: ${error.message}`);
  }
}
process.stdout.write(JSON.stringify(verdicts));
