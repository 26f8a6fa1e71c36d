# syntax=docker/dockerfile:1
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /freshet ./cmd/freshet

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /freshet /usr/local/bin/freshet
USER nonroot
ENTRYPOINT ["/usr/local/bin/freshet"]
CMD ["worker"]
