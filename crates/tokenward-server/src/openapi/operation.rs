//! One operation: a method of a path, what it takes and what it answers.

use http::StatusCode;
use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, HttpMethod, Object, ObjectBuilder, PathItem, Ref, RefOr, Required, ResponseBuilder,
        Schema, Type,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::AdditionalProperties,
        security::SecurityRequirement,
    },
};

/// The name of the security scheme.
pub(super) const CREDENTIAL: &str = "credential";

/// The same by name and secret.
pub(super) const CLIENT: &str = "client";

const PROBLEM_JSON: &str = "application/problem+json";

/// A method of a path. Schemas that it refers to come with it.
pub(crate) struct Operation {
    method: HttpMethod,
    path: String,
    id: &'static str,
    inner: OperationBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// `id` names it in clients that are generated, and in the audit log.
    pub(crate) fn new(method: HttpMethod, path: impl Into<String>, id: &'static str, summary: &str) -> Self {
        let path = path.into();
        let mut operation = Self {
            method,
            id,
            inner: OperationBuilder::new().summary(Some(summary)),
            schemas: Vec::new(),
            path,
        };
        let path = operation.path.clone();
        // Each name in braces is a parameter; what it may be is the same everywhere.
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(match name {
                    // Whoever is a user is not for us to say, nor what paths are.
                    "user_id" | "path" => ObjectBuilder::new().schema_type(Type::String).build(),
                    _ => name_schema(),
                }));
            operation.inner = operation.inner.parameter(parameter.build());
        }
        operation
    }

    /// Operations of the same kind are shown together.
    pub(crate) fn tag(mut self, tag: &str) -> Self {
        self.inner = self.inner.tag(tag);
        self
    }

    /// It needs a credential with this scope; none where any credential will do.
    pub(crate) fn needs(mut self, scope: Option<&str>) -> Self {
        self.inner = self.inner.security(SecurityRequirement::new(CREDENTIAL, scope));
        self.problem(StatusCode::BAD_REQUEST, "The request is malformed.")
            .problem(StatusCode::UNAUTHORIZED, "The credential is missing or unknown.")
            .problem(
                StatusCode::FORBIDDEN,
                "The credential lacks the scope, or another site asks.",
            )
            .problem(
                StatusCode::MISDIRECTED_REQUEST,
                "The host is none of this machine's.",
            )
            .problem(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many calls, or unknown credentials, from this address or with this credential.",
            )
    }

    /// A credential with this scope instead will do, too.
    pub(crate) fn or_needs(mut self, scope: &str) -> Self {
        self.inner = self.inner.security(SecurityRequirement::new(CREDENTIAL, [scope]));
        self
    }

    pub(crate) fn query(mut self, parameter: Parameter) -> Self {
        let Parameter {
            name,
            description,
            schema,
        } = parameter;
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema));
        self.inner = self.inner.parameter(parameter.build());
        self
    }

    /// It needs a credential with this scope, by either scheme of OAuth.
    pub(super) fn needs_client(mut self, scope: &str) -> Self {
        let by = |scheme| SecurityRequirement::new(scheme, Some(scope));
        self.inner = self.inner.security(by(CREDENTIAL)).security(by(CLIENT));
        self
    }

    /// A form of the type `T`.
    pub(super) fn takes_form<T: ToSchema>(mut self) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).build();
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content("application/x-www-form-urlencoded", content);
        self.inner = self.inner.request_body(Some(body.build()));
        self
    }

    /// A JSON body of the type `T`.
    pub(crate) fn takes<T: ToSchema>(self) -> Self {
        self.body::<T>(Required::True)
    }

    /// A JSON body of the type `T`, or none.
    pub(crate) fn takes_optionally<T: ToSchema>(self) -> Self {
        self.body::<T>(Required::False)
    }

    fn body<T: ToSchema>(mut self, required: Required) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>())).build();
        let body = RequestBodyBuilder::new()
            .required(Some(required))
            .content("application/json", content);
        self.inner = self.inner.request_body(Some(body.build()));
        self.problem(StatusCode::REQUEST_TIMEOUT, "The body came too slowly.")
            .problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB.")
    }

    /// Success, with a JSON body of the type `T`.
    pub(crate) fn answers<T: ToSchema>(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.reference::<T>();
        self.answers_as(status, description, &["application/json"], Some(&schema))
    }

    /// Success, with a body of other types, or with none where there are no types.
    pub(crate) fn answers_as(
        mut self,
        status: StatusCode,
        description: &str,
        types: &[&str],
        schema: Option<&RefOr<Schema>>,
    ) -> Self {
        let mut response = ResponseBuilder::new().description(description);
        for media in types {
            response = response.content(*media, ContentBuilder::new().schema(schema.cloned()).build());
        }
        self.inner = self.inner.response(status.as_str(), response.build());
        self
    }

    /// A refusal or failure.
    pub(crate) fn problem(mut self, status: StatusCode, description: &str) -> Self {
        let schema = self.reference::<Problem>();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content(PROBLEM_JSON, content);
        self.inner = self.inner.response(status.as_str(), response.build());
        self
    }

    pub(crate) fn id(&self) -> &'static str {
        self.id
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().into_owned();
        T::schemas(&mut self.schemas);
        self.schemas.push((name.clone(), T::schema()));
        Ref::from_schema_name(name).into()
    }

    pub(super) fn schemas(&self) -> Vec<(String, RefOr<Schema>)> {
        self.schemas.clone()
    }

    pub(super) fn into_item(self) -> (String, PathItem) {
        // Ids are unique in a document, while an operation may stand on the path of a tenant too.
        let suffix = if self.path.contains("/tenants/") {
            ".of_tenant"
        } else {
            ""
        };
        let operation = self.inner.operation_id(Some(format!("{}{suffix}", self.id)));
        (self.path, PathItem::new(self.method, operation))
    }
}

/// A parameter of a query.
pub(crate) struct Parameter {
    name: &'static str,
    description: &'static str,
    schema: Object,
}

impl Parameter {
    pub(crate) fn text(name: &'static str, description: &'static str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String).build();
        Self {
            name,
            description,
            schema,
        }
    }

    /// A name of an identity provider or tenant.
    pub(crate) fn name(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            description,
            schema: name_schema(),
        }
    }

    /// An integer between two bounds, both included.
    pub(crate) fn integer(name: &'static str, description: &'static str, (min, max): (i64, i64)) -> Self {
        let schema = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(min))
            .maximum(Some(max))
            .build();
        Self {
            name,
            description,
            schema,
        }
    }
}

fn name_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[A-Za-z0-9_-]{1,64}$"))
        .build()
}

/// A refusal or failure (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(
    dead_code,
    reason = "only its schema is used; what is sent is written by the library"
)]
struct Problem {
    r#type: String,
    title: String,
    /// The HTTP status.
    status: u16,
    detail: String,
    /// What the protocol calls it (RFC 6750), else the code.
    error: String,
    /// The stable reason.
    error_code: String,
    /// What is wrong with members of the request.
    errors: Option<Vec<MemberProblem>>,
}

/// What is wrong with one member of a request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct MemberProblem {
    member: String,
    message: String,
}

/// The schema of an object with any members.
pub(crate) fn any_object() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .build()
        .into()
}
