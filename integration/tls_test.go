package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// authority signs certificates, and keeps them as PEM files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// file has its own certificate.
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	// The server's process may run as somebody else, whom a test's own directory keeps out.
	dir, err := os.MkdirTemp("", "freshet-tls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, dir: dir}
	a.cert, a.key, a.file, _ = a.make("ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "a private CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue makes a certificate for a server on this machine or one of its clients.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	_, _, cert, key = a.make(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return cert, key
}

func (a *authority) make(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, a.write(name+".crt", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", keyDER)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// newEncrypted is an env whose Redis wants TLS and a certificate from its clients. The
// test itself looks at it without.
func newEncrypted(t *testing.T) (e *env, ca *authority, url string) {
	t.Helper()
	t.Parallel()
	ca = newAuthority(t)
	cert, key := ca.issue("server")
	server := serverstest.RedisTLSServer(t, servers.RedisTLS{Cert: cert, Key: key, CA: ca.file})
	e = newEnvOn(t, serverstest.Postgres(t), server.URL())
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 500) g")
	e.exec("select freshet.create_sink('users', 'users')")
	return e, ca, "rediss://" + server.TLSAddr() + "/0"
}

func TestTargetIsReachedWithTLSAndAClientCertificate(t *testing.T) {
	e, ca, url := newEncrypted(t)
	cert, key := ca.issue("client")
	environment := map[string]string{
		"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": url,
		"FRESHET_REDIS_CA": ca.file, "FRESHET_REDIS_CERT": cert, "FRESHET_REDIS_KEY": key,
		"FRESHET_REDIS_URL_EDGE": url + "?skip_verify=true", "FRESHET_REDIS_CERT_EDGE": cert, "FRESHET_REDIS_KEY_EDGE": key,
	}
	startProcess(t, "worker", environment, "worker")
	e.settle()
	e.exec("update users set name = 'other'")
	e.settle()
	e.inStep("users:*", usersPromise)
	for _, args := range [][]string{{"verify", "users"}, {"get", "users", "users:7"}} {
		p := startProcess(t, args[0], environment, args...)
		if status := p.wait(patience); status != 0 {
			t.Errorf("%v: exit status %d: %s%s", args, status, p.stdout.String(), p.stderr.String())
		}
	}
}

func TestLibraryReachesItsTargetWithTLS(t *testing.T) {
	e, ca, url := newEncrypted(t)
	pair, err := tls.LoadX509KeyPair(ca.issue("client"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	w, _ := e.startWith(func(c *worker.Config) {
		c.Targets = map[string]string{"default": url}
		c.TLS = map[string]*tls.Config{"default": {RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	})
	e.awaitReady(w, 200)
	e.settle()
	e.inStep("users:*", usersPromise)
}

func TestTLSThatCannotWorkIsRefusedByName(t *testing.T) {
	e, ca, url := newEncrypted(t)
	cert, key := ca.issue("client")
	_, otherKey := ca.issue("other")
	stranger := newAuthority(t)
	missing := filepath.Join(ca.dir, "missing.pem")
	plain := map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": e.redisURL}
	encrypted := map[string]string{"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": url}
	for name, c := range map[string]struct {
		base, extra map[string]string
		says        []string
	}{
		"unknown CA": {encrypted, map[string]string{"FRESHET_REDIS_CERT": cert, "FRESHET_REDIS_KEY": key}, []string{"target default", "certificate"}},
		"other CA":   {encrypted, map[string]string{"FRESHET_REDIS_CA": stranger.file, "FRESHET_REDIS_CERT": cert, "FRESHET_REDIS_KEY": key}, []string{"target default", "certificate"}},
		// With TLS 1.3 the server may say why, or only end the connection.
		"no client":            {encrypted, map[string]string{"FRESHET_REDIS_CA": ca.file}, []string{"target default"}},
		"no such file":         {encrypted, map[string]string{"FRESHET_REDIS_CA": missing}, []string{"FRESHET_REDIS_CA:", missing}},
		"no such key":          {encrypted, map[string]string{"FRESHET_REDIS_CERT": cert, "FRESHET_REDIS_KEY": missing}, []string{"FRESHET_REDIS_KEY:", missing}},
		"not PEM":              {encrypted, map[string]string{"FRESHET_REDIS_CA": key}, []string{"FRESHET_REDIS_CA:", "no certificate in PEM form"}},
		"certificate alone":    {encrypted, map[string]string{"FRESHET_REDIS_CERT": cert}, []string{"FRESHET_REDIS_CERT", "set FRESHET_REDIS_KEY"}},
		"key alone":            {encrypted, map[string]string{"FRESHET_REDIS_KEY": key}, []string{"FRESHET_REDIS_KEY", "set FRESHET_REDIS_CERT"}},
		"another's key":        {encrypted, map[string]string{"FRESHET_REDIS_CERT": cert, "FRESHET_REDIS_KEY": otherKey}, []string{"FRESHET_REDIS_CERT and FRESHET_REDIS_KEY"}},
		"no TLS in the URL":    {plain, map[string]string{"FRESHET_REDIS_CA": ca.file}, []string{"FRESHET_REDIS_URL:", "rediss://"}},
		"target without a URL": {encrypted, map[string]string{"FRESHET_REDIS_CA_EDGE": ca.file}, []string{"FRESHET_REDIS_CA_EDGE", `"edge"`}},
		"of a named target": {encrypted, map[string]string{"FRESHET_REDIS_URL_EDGE": url, "FRESHET_REDIS_CERT_EDGE": cert},
			[]string{"FRESHET_REDIS_CERT_EDGE", "set FRESHET_REDIS_KEY_EDGE"}},
	} {
		t.Run(name, func(t *testing.T) {
			environment := make(map[string]string)
			for _, from := range []map[string]string{c.base, c.extra} {
				for variable, value := range from {
					environment[variable] = value
				}
			}
			complains(t, environment, []string{"worker"}, c.says...)
		})
	}
}

// Certificates that are renewed in place are used by the next connection.
func TestRenewedClientCertificateIsUsed(t *testing.T) {
	e, ca, url := newEncrypted(t)
	cert, key := ca.issue("client")
	p := startProcess(t, "worker", map[string]string{
		"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL": url, "FRESHET_REDIS_CA": ca.file,
		"FRESHET_REDIS_CERT": cert, "FRESHET_REDIS_KEY": key,
	}, "worker")
	e.settle()
	reconnect := func() {
		t.Helper()
		for _, line := range strings.Split(e.redis.ClientList(t.Context()).Val(), "\n") {
			if !strings.Contains(line, "name=freshet") {
				continue
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			if err := e.redis.ClientKillByFilter(t.Context(), "ID", id).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// For a while what is there is nobody's, then another one of the same CA.
	ca.write("client.crt", "CERTIFICATE", []byte("nonsense"))
	reconnect()
	e.exec("update users set name = 'in the meantime'")
	e.await("status says why it cannot connect", func() bool {
		return strings.Contains(one[string](e, "select coalesce(min(last_error), '') from freshet.status"), "FRESHET_REDIS_CERT")
	})
	ca.issue("client")
	e.settle()
	e.inStep("users:*", usersPromise)
	select {
	case <-p.ended:
		t.Error("the worker ended")
	default:
	}
}
