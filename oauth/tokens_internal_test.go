package oauth

import (
	"encoding/json"
	"testing"
)

// What NaN becomes as a whole number differs between processors.
func TestSecondsAreAPositiveNumberOrNone(t *testing.T) {
	const year = 365 * 24 * 3600
	for sent, want := range map[string]seconds{
		`3600`: 3600, `"3600"`: 3600, `3599.9`: 3599, `"Inf"`: year, `1e300`: year,
		`"NaN"`: 0, `"nan"`: 0, `"-Inf"`: 0, `-1`: 0, `0`: 0, `"soon"`: 0, `true`: 0,
	} {
		var got seconds
		if err := json.Unmarshal([]byte(sent), &got); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", sent, got, err, want)
		}
	}
}
