// An OpenID provider for the end-to-end tests: oidc-provider with its
// development pages, which sign anybody in, two accounts and one client. It
// keeps everything in memory. Refresh tokens work once; when one comes a second
// time, everything that was granted with it ends. Of each grant that ends it
// prints what ended it, and of each back-channel logout what came of it.
//
// Who signs in as alice+gold+otp+old is alice, in the class urn:example:gold, by
// one-time password, and two hours ago; each of the words may be left out. Who is
// signed in already is asked again if another class is wanted.
//
// The last argument changes what the client is, as {"client": {…}}, and where the
// provider listens for clients that show a certificate, as {"tls": {"port", "cert",
// "key"}}.
//
//	node provider.mjs http://127.0.0.1:PORT http://HOST/auth/callback/corp [SECONDS OF AN ACCESS TOKEN [JSON]]
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { Provider, interactionPolicy } from 'oidc-provider';

const [issuer, redirectURI, accessTokenLife = '3600', json = '{}'] = process.argv.slice(2);
const settings = JSON.parse(json);

const accounts = {
  alice: { email: 'alice@example.com', email_verified: true, name: 'Alice Adams', groups: ['admins', 'staff'] },
  bob: { email: 'bob@example.com', email_verified: true, name: 'Bob Brown', groups: ['staff'] },
};

const interactions = interactionPolicy.base();
interactions.get('login').checks.add(new interactionPolicy.Check('acr_values', 'another class is wanted', ({ oidc }) => {
  const wanted = oidc.params.acr_values?.split(' ') ?? [];
  const asks = wanted.length > 0 && !wanted.includes(oidc.acr) && !oidc.result?.login;
  return asks ? interactionPolicy.Check.REQUEST_PROMPT : interactionPolicy.Check.NO_NEED_TO_PROMPT;
}));

const provider = new Provider(issuer, {
  acrValues: ['urn:example:gold', 'urn:example:silver'],
  interactions: { policy: interactions },
  clients: [{
    client_id: 'authproxy',
    ...(settings.client ? {} : { client_secret: 'a-secret-for-tests' }),
    redirect_uris: [redirectURI],
    post_logout_redirect_uris: [new URL('/auth/sign-out', redirectURI).href],
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    token_endpoint_auth_method: 'client_secret_basic',
    // Where sessions are in cookies this is 404, which oidc-provider does not mind.
    backchannel_logout_uri: new URL('/auth/backchannel-logout/corp', redirectURI).href,
    backchannel_logout_session_required: true,
    ...settings.client,
  }],
  clientAuthMethods: ['client_secret_basic', 'private_key_jwt', 'self_signed_tls_client_auth'],
  claims: {
    openid: ['sub', 'amr'],
    email: ['email', 'email_verified'],
    profile: ['name'],
    groups: ['groups'],
  },
  cookies: { keys: ['a key for tests only'] },
  features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true }, introspection: { enabled: true }, revocation: { enabled: true },
    mTLS: { enabled: true, selfSignedTlsClientAuth: true, getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.() } },
  // Its own dispatcher keeps it from calling this machine, which is where the test is.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  findAccount: (_ctx, id) => accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
  issueRefreshToken: () => true, // also without prompt=consent
  rotateRefreshToken: true,
  ttl: { AccessToken: Number(accessTokenLife) },
  clockTolerance: 0,
  pkce: { required: () => true },
});

const finish = provider.interactionFinished.bind(provider);
provider.interactionFinished = (req, res, result, options) => {
  if (!result.login) return finish(req, res, result, options);
  const [accountId, ...words] = result.login.accountId.split('+');
  return finish(req, res, {
    login: {
      accountId,
      acr: words.includes('gold') ? 'urn:example:gold' : 'urn:example:silver',
      amr: words.includes('otp') ? ['pwd', 'otp'] : ['pwd'],
      ...(words.includes('old') ? { ts: Math.floor(Date.now() / 1000) - 7200 } : {}),
    },
  }, options);
};

provider.on('grant.revoked', (ctx) => console.log(`grant revoked by ${ctx.oidc.route}`));
provider.on('backchannel.success', () => console.log('backchannel logout: success'));
provider.on('backchannel.error', (_ctx, err) => console.log(`backchannel logout: ${err.message} ${err.cause ?? ""}`));

const { hostname, port } = new URL(issuer);
provider.listen(Number(port), hostname);
if (settings.tls) {
  const { port: securePort, cert, key } = settings.tls;
  https.createServer({ cert: readFileSync(cert), key: readFileSync(key), requestCert: true, rejectUnauthorized: false }, provider.callback())
    .listen(securePort, hostname);
}
