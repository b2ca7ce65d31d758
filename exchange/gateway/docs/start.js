// Shows the document of the gateway that served this page, and asks nobody else: no validator, no foreign host.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#contract",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
