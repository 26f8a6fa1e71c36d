package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
)

// tlsFiles are the PEM files of one target, each with the variable that names it.
type tlsFiles struct {
	ca, cert, key file
}

type file struct{ variable, path string }

// findTLS collects the files of every target.
func (s *settings) findTLS(environ map[string]string) (map[string]tlsFiles, error) {
	found := make(map[string]tlsFiles)
	for variable, path := range environ {
		rest, ok := strings.CutPrefix(variable, "FRESHET_REDIS_")
		if !ok || path == "" {
			continue
		}
		what, name, named := strings.Cut(rest, "_")
		name = strings.ToLower(name)
		if !named {
			name = "default"
		}
		files := found[name]
		switch what {
		case "CA":
			files.ca = file{variable, path}
		case "CERT":
			files.cert = file{variable, path}
		case "KEY":
			files.key = file{variable, path}
		default:
			continue
		}
		if _, ok := s.urls[name]; !ok {
			return nil, fmt.Errorf("%s is for target %q, which has no URL", variable, name)
		}
		found[name] = files
	}
	return found, nil
}

// readTLS reads the files of the targets that are served. An error names the variable.
func (s *settings) readTLS(found map[string]tlsFiles) (map[string]*tls.Config, error) {
	configs := make(map[string]*tls.Config)
	for name, files := range found {
		if _, served := s.urls[name]; !served {
			continue
		}
		config, err := files.read()
		if err != nil {
			return nil, err
		}
		configs[name] = config
	}
	return configs, nil
}

func (f tlsFiles) read() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca.path != "" {
		text, err := os.ReadFile(f.ca.path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.ca.variable, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in PEM form in %s", f.ca.variable, f.ca.path)
		}
	}
	switch {
	case f.cert.path == "" && f.key.path == "":
		return config, nil
	case f.key.path == "":
		return nil, fmt.Errorf("%s is set and its key is not: set %s", f.cert.variable, strings.Replace(f.cert.variable, "_CERT", "_KEY", 1))
	case f.cert.path == "":
		return nil, fmt.Errorf("%s is set and its certificate is not: set %s", f.key.variable, strings.Replace(f.key.variable, "_KEY", "_CERT", 1))
	}
	for _, one := range []file{f.cert, f.key} {
		if _, err := os.ReadFile(one.path); err != nil {
			return nil, fmt.Errorf("%s: %w", one.variable, err)
		}
	}
	pair := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(f.cert.path, f.key.path)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", f.cert.variable, f.key.variable, err)
		}
		return &pair, nil
	}
	if _, err := pair(); err != nil {
		return nil, err
	}
	// Read again for each connection: certificates that are short-lived are renewed in
	// place.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair() }
	return config, nil
}
