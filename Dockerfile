# syntax=docker/dockerfile:1
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What freshet version says, such as --build-arg VERSION="$(git describe --always --dirty)".
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X github.com/freshet/freshet/internal/build.version=${VERSION}" -o /freshet ./cmd/freshet

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /freshet /usr/local/bin/freshet
USER nonroot
ENTRYPOINT ["/usr/local/bin/freshet"]
CMD ["worker"]
