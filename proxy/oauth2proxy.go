package proxy

import (
	"net/http"
	"strings"

	"authproxy/identity"
)

// The conventions of [Config.Convention].
const (
	ConventionNginx   = "nginx"
	ConventionForward = "forward"
)

// oauth2Prefix is where oauth2-proxy's endpoints are.
const oauth2Prefix = "/oauth2"

// accessTokenHeader is where oauth2-proxy tells the provider's access token.
const accessTokenHeader = "X-Auth-Request-Access-Token"

// OAuth2ProxyHeaders returns the headers by which oauth2-proxy tells who is
// there, by canonical name, and the identity source of each. The one with the
// access token is not among them: it is no identity.
func OAuth2ProxyHeaders() map[string]string {
	return map[string]string{
		"X-Auth-Request-User": "user.id", "X-Auth-Request-Email": "user.email", "X-Auth-Request-Groups": "user.groups",
		"X-Auth-Request-Preferred-Username": "user.name",
	}
}

// oauth2Dialect is that of /oauth2/auth. Like oauth2-proxy, it never redirects.
func (p *Proxy) oauth2Dialect() dialect {
	switch p.Convention {
	case ConventionNginx:
		return dialect{faceNginx, readNginx, false}
	case ConventionForward:
		return dialect{faceForward, readForward, false}
	}
	return dialect{faceOAuth2, p.readNothing, false}
}

// readNothing is for an ingress that does not say which request it asks about,
// where all are alike to the rules.
func (p *Proxy) readNothing(*http.Request, string) (original, error) {
	return original{method: http.MethodGet, scheme: p.PublicURL.Scheme, host: p.PublicURL.Host, target: target{path: "/"}}, nil
}

// accessToken returns the provider's token in authorization, the header for the
// application, "" if that is another one.
func (p *Proxy) accessToken(authorization string) string {
	if p.Identity.Config.Authorization != identity.AuthorizationAccessToken {
		return ""
	}
	return strings.TrimPrefix(authorization, "Bearer ")
}
