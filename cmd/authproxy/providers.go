package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"authproxy/config"
	"authproxy/oauth"
)

// buildProviders makes the providers, and reads the files that they need.
func (a *app) buildProviders() error {
	metrics := oauth.NewMetrics(a.metrics)
	for _, c := range a.config.Providers {
		callback := *a.config.PublicURL
		callback.Path = a.config.Prefix + "/callback/" + c.ID
		if a.config.Compat.OAuth2Proxy && len(a.config.Providers) == 1 {
			callback.Path = "/oauth2/callback" // what is registered at the provider
		}
		settings, err := providerConfig(c)
		if err != nil {
			return fmt.Errorf("providers.%s.%w", c.ID, err)
		}
		settings.RedirectURL, settings.Metrics, settings.Log = callback.String(), metrics, a.log
		p, err := oauth.New(settings)
		if err != nil {
			return err
		}
		a.providers = append(a.providers, p)
	}
	return nil
}

// providerConfig copies the settings of a provider. Its error begins with the
// name of a setting.
func providerConfig(c config.Provider) (oauth.Config, error) {
	e := c.Endpoints
	settings := oauth.Config{
		ID: c.ID, Name: c.Name, Type: c.Type, Issuer: c.Issuer, BaseURL: c.BaseURL,
		ClientID: c.ClientID, ClientSecret: c.ClientSecret, Scopes: c.Scopes, GroupsClaim: c.GroupsClaim,
		ResponseMode: c.ResponseMode, SignOut: c.SignOut, PushedRequests: c.PushedRequests,
		HostedDomains: c.HostedDomains, Orgs: c.Orgs, Teams: c.Teams, Tenant: c.Tenant, AllowedTenants: c.AllowedTenants,
		Auth: oauth.ClientAuth{KeyID: c.PrivateKeyID, Audience: c.AssertionAudience, Secret: c.ClientAuth},
		Endpoints: oauth.Endpoints{
			AuthorizeURL: e.AuthorizeURL, TokenURL: e.TokenURL, JWKSURL: e.JWKSURL, UserinfoURL: e.UserinfoURL,
			EndSessionURL: e.EndSessionURL, RevocationURL: e.RevocationURL, PushURL: e.PushURL,
			APIURL: e.APIURL, MetadataURL: e.MetadataURL,
		},
	}
	if c.Type == oauth.OAuth2 {
		settings.Endpoints.AuthorizeURL, settings.Endpoints.TokenURL, settings.Endpoints.UserinfoURL = c.AuthorizeURL, c.TokenURL, c.UserinfoURL
		settings.Claims = oauth.ClaimPaths{
			ID: c.Claims.ID, Email: c.Claims.Email, EmailVerified: c.Claims.EmailVerified,
			Name: c.Claims.Name, Picture: c.Claims.Image, Groups: c.Claims.Groups,
		}
	}
	return settings, readProviderFiles(c, &settings)
}

// readProviderFiles reads the keys and certificates that c names.
func readProviderFiles(c config.Provider, settings *oauth.Config) error {
	var err error
	if c.PrivateKeyFile != "" {
		if settings.Auth.Key, err = readPrivateKey(c.PrivateKeyFile); err != nil {
			return fmt.Errorf("private_key_file: %w", err)
		}
	}
	if c.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCertFile, c.ClientKeyFile)
		if err != nil {
			return fmt.Errorf("client_cert_file: %w", err)
		}
		settings.Auth.Certificate = &pair
	}
	g := c.Groups
	if g == nil {
		return nil
	}
	settings.Groups = &oauth.GoogleGroups{API: g.API, AdminEmail: g.AdminEmail, Nested: g.Nested, TTL: g.Cache}
	if g.ServiceAccountFile != "" {
		if settings.Groups.ServiceAccount, err = os.ReadFile(g.ServiceAccountFile); err != nil {
			return fmt.Errorf("groups.service_account_file: %w", err)
		}
	}
	return nil
}

// readPrivateKey reads a private key in PEM, in any of the usual forms.
func readPrivateKey(name string) (crypto.Signer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the file holds no PEM")
	}
	var key any
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("the file holds no private key that can be read; keys with a passphrase are not supported")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the file's key cannot sign")
	}
	return signer, nil
}
