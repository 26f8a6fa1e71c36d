package main

import (
	"slices"
	"testing"
)

func TestFlagsStandAnywhereBeforeTwoDashes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, want []string
		target     string
	}{
		{[]string{"users", "--target", "eu", "users:1"}, []string{"users", "users:1"}, "eu"},
		{[]string{"users", "--", "-1:a", "-2:b"}, []string{"users", "-1:a", "-2:b"}, ""},
		{[]string{"--target=eu", "users", "--", "-1:a", "--target", "--"}, []string{"users", "-1:a", "--target", "--"}, "eu"},
		{[]string{"--", "-1:a"}, []string{"-1:a"}, ""},
		{[]string{"users", "--"}, []string{"users"}, ""},
	} {
		set := flags("get")
		target := set.String("target", "", "")
		got, err := arguments(set, c.args)
		if err != nil || !slices.Equal(got, c.want) || *target != c.target {
			t.Errorf("%q: %q, target %q, %v; want %q and %q", c.args, got, *target, err, c.want, c.target)
		}
	}
	if _, err := arguments(flags("get"), []string{"users", "-1:a"}); err == nil {
		t.Error("-1:a without two dashes before it was taken for no flag")
	}
}
