package fence_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/fence"
)

func TestFenceComesBackFromItsText(t *testing.T) {
	words := rapid.StringMatching(`[0-9A-Fa-f.]*`)
	rapid.Check(t, func(t *rapid.T) {
		want := fence.Fence{
			Incarnation: words.Draw(t, "incarnation"), Definition: rapid.Int32().Draw(t, "definition"),
			Epoch: rapid.Int64().Draw(t, "epoch"), Nonce: words.Draw(t, "nonce"),
		}
		if got, err := fence.Parse(want.String()); err != nil || got != want {
			t.Fatalf("%+v came back as %+v, %v", want, got, err)
		}
	})
}

func TestParseRefusesWhatIsNoFence(t *testing.T) {
	for _, text := range []string{"", "a 1 1", "a 1 1 n x", "a x 1 n", "a 1 x n", "a 2147483648 1 n", "a 1 9223372036854775808 n", "a  1 1 n"} {
		if f, err := fence.Parse(text); err == nil {
			t.Errorf("%q is taken for the fence %+v", text, f)
		}
	}
}

func TestControlKeyNamesItsLease(t *testing.T) {
	if got, want := fence.Key("abc", 7, "b12"), "freshet:abc:7:b12"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"7.1.5.abc 1 2 n", " 0 0 ", "a b c d", "a -1 -2 n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := fence.Parse(text)
		if err != nil {
			return
		}
		if again, err := fence.Parse(parsed.String()); err != nil || again != parsed {
			t.Errorf("%q is %+v, which comes back as %+v, %v", text, parsed, again, err)
		}
	})
}
