package pg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsWrongWithAURLIsSaidWithoutIt(t *testing.T) {
	t.Setenv("PGSERVICEFILE", filepath.Join(t.TempDir(), "none"))
	const secret = "s3cr3tword"
	empty := filepath.Join(t.TempDir(), secret+".pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for parameters, want := range map[string]string{
		"sslmode=" + secret:                             "sslmode is none of disable, allow, prefer, require, verify-ca and verify-full",
		"sslmode=verify-full&sslrootcert=/no/" + secret: "the file that sslrootcert names cannot be read: no such file or directory",
		"sslmode=verify-full&sslrootcert=" + empty:      "has no certificate in PEM form",
		"sslcert=/no/" + secret:                         "of sslcert and sslkey one is missing",
		"sslkey=/no/" + secret + "&sslcert=/no/x":       "the file that sslkey names cannot be read: no such file",
		"service=" + secret:                             "the service file cannot be read",
		"connect_timeout=" + secret:                     "connect_timeout is no number of seconds",
		"target_session_attrs=" + secret:                "target_session_attrs is none of",
		"pool_max_conns=" + secret:                      "parameters that begin with pool_",
		"require_auth=" + secret:                        "require_auth cannot be read",
	} {
		for _, form := range []string{
			"postgres://someone:" + secret + "@localhost/shop?" + parameters,
			"host=localhost password=" + secret + " " + strings.ReplaceAll(parameters, "&", " "),
		} {
			_, err := ParseURL(form)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", form, err, want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v has the password", form, err)
			}
		}
	}
	// Of what cannot be taken apart nobody knows what it means.
	for _, form := range []string{
		"postgres://someone:" + secret + "@localhost:x/shop", "postgres://someone:sslmode is invalid@local host/shop",
		"mysql://someone:" + secret + "@localhost/shop", "host=localhost password=" + secret + " port=x",
	} {
		if _, err := ParseURL(form); err == nil || err != errURL {
			t.Errorf("%s: %v", form, err)
		}
	}
}
