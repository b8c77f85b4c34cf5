package devidp

import "net/http"

// serveDiscovery says what this provider can do (OpenID Connect Discovery
// section 3). A false is written out where the default would be true.
func (s *Server) serveDiscovery(w http.ResponseWriter, _ *http.Request, _ *Faults) error {
	clientAuth := []string{"client_secret_basic", "client_secret_post", "none"}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         s.issuer,
		"authorization_endpoint":                         s.issuer + "/authorize",
		"token_endpoint":                                 s.issuer + "/token",
		"userinfo_endpoint":                              s.issuer + "/userinfo",
		"jwks_uri":                                       s.issuer + "/jwks",
		"end_session_endpoint":                           s.issuer + "/end-session",
		"revocation_endpoint":                            s.issuer + "/revoke",
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query", "form_post"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256", "ES256"},
		"scopes_supported":                               supportedScopes(),
		"prompt_values_supported":                        []string{"none", "login", "select_account", "consent"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          clientAuth,
		"revocation_endpoint_auth_methods_supported":     clientAuth,
		"authorization_response_iss_parameter_supported": true,
		"claims_parameter_supported":                     false,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
		"claims_supported": []string{
			"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "amr", "sid", "at_hash",
			"email", "email_verified", "name", "preferred_username", "picture", "groups",
		},
	})
	return nil
}

func supportedScopes() []string {
	return []string{"openid", "profile", "email", "groups", "offline_access"}
}
