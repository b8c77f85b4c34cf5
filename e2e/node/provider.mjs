// An OpenID provider for the end-to-end tests: oidc-provider with its
// development pages, which sign anybody in, two accounts and one client. It
// keeps everything in memory.
//
//	node provider.mjs http://127.0.0.1:PORT http://HOST/auth/callback/corp
import { Provider } from 'oidc-provider';

const [issuer, redirectURI] = process.argv.slice(2);

const accounts = {
  alice: { email: 'alice@example.com', email_verified: true, name: 'Alice Adams', groups: ['admins', 'staff'] },
  bob: { email: 'bob@example.com', email_verified: true, name: 'Bob Brown', groups: ['staff'] },
};

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'authproxy',
    client_secret: 'a-secret-for-tests',
    redirect_uris: [redirectURI],
    post_logout_redirect_uris: [new URL('/auth/sign-out', redirectURI).href],
    response_types: ['code'],
    grant_types: ['authorization_code'],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name'],
    groups: ['groups'],
  },
  cookies: { keys: ['a key for tests only'] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_ctx, id) => accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
  pkce: { required: () => true },
});

const { hostname, port } = new URL(issuer);
provider.listen(Number(port), hostname);
