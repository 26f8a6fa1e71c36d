package target

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// observer is a hook that tells of errors. On the way of what goes well it costs a
// comparison.
type observer struct {
	saw func(error)
}

// DialHook implements redis.Hook. Who wanted the connection gets its error.
func (o observer) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (o observer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil {
			o.saw(err)
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (o observer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil {
			o.saw(err)
		}
		return err
	}
}
