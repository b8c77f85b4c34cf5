package page

import (
	"net/http"
	"testing"
)

// header makes a header of alternating names and values; a name may repeat.
func header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

func TestNegotiation(t *testing.T) {
	tests := []struct {
		name       string
		method     string
		header     http.Header
		navigation bool
		html       bool
	}{
		{"browser opens a page", "GET", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", browserAccept), true, true},
		{"HEAD of a page", "HEAD", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", browserAccept), true, true},
		{"navigation counts without Accept", "GET", header("Sec-Fetch-Mode", "navigate"), true, false},
		{"document, whatever Accept says", "GET", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "*/*"), true, true},
		{"navigation of an iframe", "GET", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe", "Accept", "*/*"), true, true},
		{"browser without Fetch Metadata", "GET", header("Accept", browserAccept), true, true},
		{"text/html alone", "GET", header("Accept", "text/html"), true, true},
		{"case of a media type does not matter", "GET", header("Accept", "Text/HTML"), true, true},
		{"text/html with a weight", "GET", header("Accept", "application/json, text/html;q=0.1"), true, true},
		{"text/html with parameters", "GET", header("Accept", "text/html;level=1; q=0.5"), true, true},
		{"text/html in a second Accept", "GET", header("Accept", "application/json", "Accept", "text/html"), true, true},

		{"form is posted", "POST", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", browserAccept), false, true},
		{"PUT with Accept of a browser", "PUT", header("Accept", "text/html"), false, true},
		{"OPTIONS gets no page", "OPTIONS", header("Accept", "text/html"), false, false},
		{"methods are case-sensitive", "get", header("Sec-Fetch-Mode", "navigate"), false, false},

		{"no header at all", "GET", header(), false, false},
		{"curl", "GET", header("Accept", "*/*"), false, false},
		{"text wildcard", "GET", header("Accept", "text/*"), false, false},
		{"JSON client", "GET", header("Accept", "application/json, text/plain, */*"), false, false},
		{"text/html refused by weight", "GET", header("Accept", "text/html;q=0, application/json"), false, false},
		{"text/html refused by a long zero", "GET", header("Accept", "text/html;q=0.000"), false, false},
		{"weight that is no number", "GET", header("Accept", "text/html;q=high"), false, false},
		{"weight that is NaN", "GET", header("Accept", "text/html;q=NaN"), false, false},
		{"weight above one", "GET", header("Accept", "text/html;q=7"), false, false},
		{"negative weight", "GET", header("Accept", "text/html;q=-1"), false, false},
		{"media type that only begins like HTML", "GET", header("Accept", "text/htmlx"), false, false},
		{"text/html as a parameter", "GET", header("Accept", "application/json;profile=text/html"), false, false},
		{"empty Accept", "GET", header("Accept", ""), false, false},

		{"fetch()", "GET", header("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "*/*"), false, false},
		{"fetch() that asks for HTML", "GET", header("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "text/html"), false, false},
		{"fetch() of the same origin", "GET", header("Sec-Fetch-Mode", "same-origin", "Sec-Fetch-Dest", "empty", "Accept", "*/*"), false, false},
		{"image", "GET", header("Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image", "Accept", "image/*"), false, false},
		{"Sec-Fetch-Mode outweighs Accept", "GET", header("Sec-Fetch-Mode", "no-cors", "Accept", browserAccept), false, true},
		{"WebSocket by its mode", "GET", header("Sec-Fetch-Mode", "websocket"), false, false},
		{"empty Sec-Fetch-Mode is not absent", "GET", header("Sec-Fetch-Mode", "", "Accept", "text/html"), false, true},
		{"two modes are none", "GET", header("Sec-Fetch-Mode", "navigate", "Sec-Fetch-Mode", "cors"), false, false},
		{"mode is case-sensitive", "GET", header("Sec-Fetch-Mode", "Navigate"), false, false},

		{"XMLHttpRequest", "GET", header("X-Requested-With", "XMLHttpRequest", "Accept", "text/html"), false, false},
		{"any X-Requested-With", "GET", header("X-Requested-With", "", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), false, false},
		{"htmx", "GET", header("HX-Request", "true", "Accept", "text/html"), false, false},
		{"WebSocket", "GET", header("Upgrade", "websocket", "Accept", "text/html"), false, true},
		{"request with Authorization", "GET", header("Authorization", "Bearer x", "Accept", "text/html"), false, true},
		{"empty Authorization is one too", "GET", header("Authorization", "", "Accept", "text/html"), false, true},
		{"prefetch", "GET", header("Sec-Purpose", "prefetch", "Sec-Fetch-Mode", "navigate", "Accept", "text/html"), false, true},
		{"prerender", "GET", header("Sec-Purpose", "prefetch;prerender", "Sec-Fetch-Mode", "navigate", "Accept", "text/html"), false, true},
		{"prefetch by proxy", "GET", header("Sec-Purpose", "Prefetch ; anonymous-client-ip", "Sec-Fetch-Mode", "navigate", "Accept", "text/html"), false, true},
		{"another purpose", "GET", header("Sec-Purpose", "prefetched", "Sec-Fetch-Mode", "navigate", "Accept", "text/html"), true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Navigation(tt.method, tt.header); got != tt.navigation {
				t.Errorf("Navigation(%s, %v) = %v, want %v", tt.method, tt.header, got, tt.navigation)
			}
			if got := WantsHTML(tt.method, tt.header); got != tt.html {
				t.Errorf("WantsHTML(%s, %v) = %v, want %v", tt.method, tt.header, got, tt.html)
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	const acrm = "Access-Control-Request-Method"
	tests := []struct {
		name   string
		method string
		header http.Header
		want   string
	}{
		{"preflight", "OPTIONS", header("Origin", "https://a.example", acrm, "PUT"), "PUT"},
		{"preflight of a sandboxed page", "OPTIONS", header("Origin", "null", acrm, "DELETE"), "DELETE"},
		{"method of one's own", "OPTIONS", header("Origin", "https://a.example", acrm, "M-SEARCH"), "M-SEARCH"},

		{"other method", "GET", header("Origin", "https://a.example", acrm, "PUT"), ""},
		{"no Origin", "OPTIONS", header(acrm, "PUT"), ""},
		{"empty Origin", "OPTIONS", header("Origin", "", acrm, "PUT"), ""},
		{"plain OPTIONS", "OPTIONS", header("Origin", "https://a.example"), ""},
		{"empty method", "OPTIONS", header("Origin", "https://a.example", acrm, ""), ""},
		{"two methods", "OPTIONS", header("Origin", "https://a.example", acrm, "GET", acrm, "PUT"), ""},
		{"list of methods", "OPTIONS", header("Origin", "https://a.example", acrm, "GET, PUT"), ""},
		{"method that is no token", "OPTIONS", header("Origin", "https://a.example", acrm, "GET\x00"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Preflight(tt.method, tt.header); got != tt.want {
				t.Errorf("Preflight(%s, %v) = %q, want %q", tt.method, tt.header, got, tt.want)
			}
		})
	}
}
