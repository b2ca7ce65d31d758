"""Request and response records of each endpoint family; the OpenAPI document is made from them."""
