package devidp

import (
	"errors"
	"fmt"
	"slices"
)

// A User can sign in by being chosen.
type User struct {
	// Login is what a login_hint names, and the claim preferred_username.
	Login string

	// Subject is the claim sub: unique, and never used again for another user.
	Subject string

	// Email, Name and Picture are left out of the claims when empty.
	Email, Name, Picture string

	EmailVerified bool
	Groups        []string
}

// DemoUsers returns the users of `authproxy demo`: alice, who is in the groups
// admins and staff, and bob, who is in staff. Their subjects stay the same from
// run to run.
func DemoUsers() []User {
	return []User{
		{
			Login:         "alice",
			Subject:       "5f0c7b1e93a84d26",
			Email:         "alice@example.com",
			EmailVerified: true,
			Name:          "Alice Adams",
			Groups:        []string{"admins", "staff"},
		},
		{
			Login:         "bob",
			Subject:       "c2914ed07a6b4f58",
			Email:         "bob@example.com",
			EmailVerified: true,
			Name:          "Bob Brown",
			Groups:        []string{"staff"},
		},
	}
}

func checkUsers(users []User) error {
	var errs []error
	logins, subjects := map[string]bool{}, map[string]bool{}
	for _, u := range users {
		if u.Login == "" || logins[u.Login] {
			errs = append(errs, fmt.Errorf("user %q: the login is empty or there twice", u.Login))
		}
		if u.Subject == "" || subjects[u.Subject] {
			errs = append(errs, fmt.Errorf("user %q: the subject is empty or there twice", u.Login))
		}
		logins[u.Login], subjects[u.Subject] = true, true
	}
	return errors.Join(errs...)
}

func cloneUsers(users []User) []User {
	users = slices.Clone(users)
	for i := range users {
		users[i].Groups = slices.Clone(users[i].Groups)
	}
	return users
}

// userByLogin returns the user whose Login is login, or nil.
func (s *Server) userByLogin(login string) *User {
	i := slices.IndexFunc(s.users, func(u User) bool { return u.Login == login })
	if i < 0 {
		return nil
	}
	return &s.users[i]
}

// userByHint returns the user a login_hint names, by login or by e-mail
// address, or nil: it is a hint, so a name that nobody has is no error.
func (s *Server) userByHint(hint string) *User {
	if hint == "" {
		return nil
	}
	if u := s.userByLogin(hint); u != nil {
		return u
	}
	i := slices.IndexFunc(s.users, func(u User) bool { return u.Email == hint })
	if i < 0 {
		return nil
	}
	return &s.users[i]
}

// claims returns what scopes allow a client to know about u (OpenID Connect
// Core section 5.4). The claim groups has no standard scope: it comes with
// profile, and with the scope groups that some clients ask for.
func (u *User) claims(scopes []string) map[string]any {
	claims := map[string]any{"sub": u.Subject}
	if slices.Contains(scopes, "email") && u.Email != "" {
		claims["email"] = u.Email
		claims["email_verified"] = u.EmailVerified
	}
	profile := slices.Contains(scopes, "profile")
	if profile {
		claims["preferred_username"] = u.Login
	}
	if profile && u.Name != "" {
		claims["name"] = u.Name
	}
	if profile && u.Picture != "" {
		claims["picture"] = u.Picture
	}
	if profile || slices.Contains(scopes, "groups") {
		claims["groups"] = append([]string{}, u.Groups...)
	}
	return claims
}
