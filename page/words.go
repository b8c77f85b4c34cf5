package page

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// words are how an error is put when its [Error] does not say.
type words struct {
	code, title, message string
	icon                 string // one of icons.html
}

func wordsFor(code string, status int) words {
	if code == "provider_unavailable" {
		return words{code, "Sign-in is unavailable right now", "The service that signs you in does not answer. Whoever is signed in already stays signed in.", "cloud"}
	}
	switch status {
	case http.StatusBadRequest:
		return words{"bad_request", "That request did not work", "Something in the request is missing or malformed.", "alert"}
	case http.StatusUnauthorized:
		return words{"unauthenticated", "Sign in to continue", "You need to be signed in to see this.", "key"}
	case http.StatusForbidden:
		return words{"forbidden", "You do not have access", "Your account is not allowed to open this.", "lock"}
	case http.StatusNotFound:
		return words{"not_found", "Page not found", "There is nothing at this address. It may be mistyped or out of date.", "search"}
	case http.StatusMethodNotAllowed:
		return words{"method_not_allowed", "That cannot be done here", "This address exists, but not for this kind of request.", "alert"}
	case http.StatusRequestEntityTooLarge:
		return words{"too_large", "That is too large", "What was sent is larger than is accepted here.", "alert"}
	case http.StatusTooManyRequests:
		return words{"too_many_requests", "Too many requests", "Please wait a moment before you try again.", "clock"}
	case statusClientClosed:
		return words{"canceled", "Request cancelled", "The request ended before it was answered.", "alert"}
	case http.StatusInternalServerError:
		return words{"internal", "Something went wrong", "This is a fault on our side. Please try again in a moment.", "alert"}
	case http.StatusBadGateway:
		return words{"bad_gateway", "The application did not answer", "You have done nothing wrong: the application at this address could not be reached. Please try again in a moment.", "cloud"}
	case http.StatusServiceUnavailable:
		return words{"service_unavailable", "Back in a moment", "The service is briefly unavailable. You have not been signed out.", "cloud"}
	case http.StatusGatewayTimeout:
		return words{"gateway_timeout", "The application took too long", "The application at this address did not answer in time. Please try again in a moment.", "clock"}
	}
	if text := http.StatusText(status); text != "" {
		return words{snakeCase(text), text, "The request could not be completed.", "alert"}
	}
	return words{"status_" + strconv.Itoa(status), "The request failed", "The request could not be completed.", "alert"}
}

// snakeCase makes a code of a status text: "I'm a teapot" is im_a_teapot.
func snakeCase(text string) string {
	return strings.NewReplacer(" ", "_", "-", "_", "'", "").Replace(strings.ToLower(text))
}

// wait says d as one would in conversation; empty for zero or less.
func wait(d time.Duration) string {
	seconds := wholeSeconds(d)
	switch {
	case seconds <= 0:
		return ""
	case seconds == 1:
		return "a second"
	case seconds < 60:
		return fmt.Sprintf("%d seconds", seconds)
	case seconds == 60:
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", (seconds+59)/60)
}
