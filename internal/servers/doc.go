// Package servers starts and stops private Postgres and Redis servers: for
// `freshet demo`, and for tests, which run against the real thing.
//
// It owns the choice of where a server comes from (installed binaries, the
// system's package manager, Docker, a download, or Redis in process), the
// private directory and the port a server lives on, the account it runs as,
// and its end: whatever it started is gone when Stop returns, and is gone soon
// after this process dies, even by kill -9.
//
//	            Demo                      Test
//	Postgres    installed                 installed
//	            Docker                    installed by the package manager
//	            downloaded binaries       Docker
//	Redis       installed                 installed
//	            Docker                    installed by the package manager
//	            in process (miniredis)    Docker
//
// Where nothing is left to try, the error says what is needed. A test is never
// skipped for want of a server and never runs against an imitation of one.
//
// It must never touch a server it did not start, listen beyond this machine
// without a password, use a port that somebody may rely on, or install
// anything for a demo. It knows nothing of Freshet: no schema, no keys.
//
// A server with installed (or downloaded) binaries can also be killed, paused
// and restarted on the same port, for tests of what happens then. The package
// is for Linux and macOS; it relies on signals, accounts and file locks.
package servers
