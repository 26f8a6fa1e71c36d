package render

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/servers/serverstest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	serverstest.Shutdown()
	os.Exit(code)
}

// connect opens a connection to a fresh database, with the settings under which rows are rendered.
func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(serverstest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres", "bytea_output": "hex", "extra_float_digits": "1",
	} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
