package pg

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// errURL never repeats the URL: of what cannot be parsed nobody knows which part is the
// password.
var errURL = errors.New("the database URL cannot be read; it should look like postgres://user:password@host:5432/database, with the password percent-encoded")

// faults are what the driver says of a URL that it could take apart, and what is wrong then.
// The driver's own words may have values of the URL in them.
var faults = []struct{ said, wrong string }{
	{"sslmode is invalid", "sslmode is none of disable, allow, prefer, require, verify-ca and verify-full"},
	{"invalid sslcertmode", "sslcertmode is none of disable, allow and require"},
	{"unable to read CA file", "the file that sslrootcert names cannot be read"},
	{"unable to add CA to cert pool", "the file that sslrootcert names has no certificate in PEM form"},
	{"unable to load system certificate pool", "sslrootcert is system, and the system's certificates cannot be read"},
	{`both "sslcert" and "sslkey" are required`, "of sslcert and sslkey one is missing"},
	{"unable to read sslkey", "the file that sslkey names cannot be read"},
	{"failed to decode sslkey", "the file that sslkey names has no key in PEM form"},
	{"unable to find sslpassword", "the key that sslkey names is encrypted, and sslpassword is missing"},
	{"unable to decrypt key", "sslpassword does not decrypt the key that sslkey names"},
	{"unable to read cert", "the file that sslcert names cannot be read"},
	{"unable to load cert", "the files that sslcert and sslkey name are no pair of a certificate and its key"},
	{"failed to read service file", "it names a service, and the service file cannot be read: give its path in servicefile or PGSERVICEFILE"},
	{"unable to find service", "the service that it names is not in the service file"},
	{"invalid connect_timeout", "connect_timeout is no number of seconds"},
	{"could not match", "it has several ports, and not one for each host"},
	{"unknown target_session_attrs value", "target_session_attrs is none of any, read-write, read-only, primary, standby and prefer-standby"},
	{"unknown channel_binding value", "channel_binding is none of disable, prefer and require"},
	{"invalid require_auth", "require_auth cannot be read"},
	{"protocol_version", "min_protocol_version or max_protocol_version cannot be read"},
	{"default_query_exec_mode", "default_query_exec_mode cannot be read"},
	{"statement_cache_capacity", "statement_cache_capacity is no number"},
	{"description_cache_capacity", "description_cache_capacity is no number"},
	{"pool_", "one of its parameters that begin with pool_ cannot be read"},
}

// unreadable says what is wrong with a database URL, as far as that can be said without
// showing any of it.
func unreadable(err error) error {
	// What comes before is the URL.
	said := err.Error()
	said = said[strings.LastIndex(said, "`: ")+1:]
	for _, f := range faults {
		if !strings.Contains(said, f.said) {
			continue
		}
		var file *fs.PathError
		if errors.As(err, &file) {
			return fmt.Errorf("the database URL: %s: %w", f.wrong, file.Err)
		}
		return fmt.Errorf("the database URL: %s", f.wrong)
	}
	return errURL
}
